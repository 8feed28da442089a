// How fast SVIDs that are not known yet are looked at: so many at once, then one every few milliseconds, those that would wait too long
// not at all. One an isolate, so that a flood of different certificates takes a bounded share of it. Each caller waits by its own
// timer: a request of a Worker cannot wait for another one.

export interface PaceBounds {
  readonly atOnceMax: number;
  readonly everyMs: number;
  readonly waitMsMax: number;
}

export class VerificationPace {
  readonly #bounds: PaceBounds;
  /** When the next one is due, were nothing let through at once. */
  #dueMs = Number.NEGATIVE_INFINITY;

  constructor(bounds: PaceBounds) {
    this.#bounds = bounds;
  }

  /** Milliseconds to wait before the work; null: it is to be refused, and takes nobody's place. */
  admit(now: number): number | null {
    const { atOnceMax, everyMs, waitMsMax } = this.#bounds;
    const earliest = now - (atOnceMax - 1) * everyMs;
    // Later than this only after a clock went back.
    const latest = now + waitMsMax + everyMs;
    const due = Math.min(latest, Math.max(earliest, this.#dueMs));
    const waitMs = Math.max(0, due - now);
    const isShed = waitMs > waitMsMax;
    this.#dueMs = isShed ? due : due + everyMs;
    if (isShed) return null;
    return waitMs;
  }
}
