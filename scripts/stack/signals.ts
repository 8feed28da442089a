// Keeps libraries from answering signals: Miniflare's exit hook calls process.exit() on SIGINT and SIGTERM, before
// anything could be stopped in order. Called by startStack, around what loads and starts them.

const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** Answers a function that removes every signal listener that was added in between. */
export function watchSignalListeners(): () => void {
  const before = new Map(signals.map((signal) => [signal, new Set<unknown>(process.listeners(signal))]));
  return () => {
    for (const signal of signals) {
      for (const listener of process.listeners(signal)) {
        if (!before.get(signal)?.has(listener)) process.off(signal, listener);
      }
    }
  };
}
