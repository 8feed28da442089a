// Work on many items, a bounded number at once. Called by the audit worker's consumers and by the anchor of all logs.

/** Rejects with the first failure; what was begun by then goes on. */
export async function eachOf<T>(items: readonly T[], atOnce: number, work: (item: T) => Promise<void>): Promise<void> {
  const rest = items.values();
  await Promise.all(
    Array.from({ length: Math.min(atOnce, items.length) }, async () => {
      for (const item of rest) await work(item);
    }),
  );
}
