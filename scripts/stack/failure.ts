// What went wrong with the local stack, as one clear sentence and a way out. Thrown by scripts/stack, printed by the
// commands.

export class StackFailure extends Error {
  override readonly name = "StackFailure";
  /** What to do about it, as one sentence or command. */
  readonly wayOut: string;

  constructor(sentence: string, wayOut: string, options?: ErrorOptions) {
    super(sentence, options);
    this.wayOut = wayOut;
  }
}

/** Two lines for a terminal. An error that is not a StackFailure keeps its stack: it is a bug, not a situation. */
export function describeFailure(error: unknown): string {
  if (error instanceof StackFailure) return `${error.message}\n→ ${error.wayOut}`;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
