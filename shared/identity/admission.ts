// When an SVID that is not known yet may be looked at. Requests that come at once with the same one share the first's place: they wait
// until it was looked at. Made once an isolate by svid-desk.ts.

import { VerificationPace, type PaceBounds } from "./verification-pace.ts";

/** A place in line, by when whoever took it began to look. */
interface Place {
  readonly dueMs: number;
}

/**
 * Those that share a place look whether it is known so long after the place's time: a verification with its look-up takes 5 to 50 ms.
 * After the last look the SVID is bad, or all is slow; they are strangers then.
 */
const looksAfterMs = [20, 60, 200] as const;
const lastLookMs = looksAfterMs[looksAfterMs.length - 1]!;

export class Admission {
  readonly #pace: VerificationPace;
  readonly #waitMsMax: number;
  readonly #pause: (ms: number) => Promise<void>;
  readonly #sharersMax: number;
  /** By SVID, the oldest first. Never more than the pace gives places in the time that one is kept. */
  readonly #places = new Map<string, Place>();
  #sharers = 0;

  constructor(pace: PaceBounds, sharersMax: number, pause: (ms: number) => Promise<void>) {
    this.#pace = new VerificationPace(pace);
    this.#waitMsMax = pace.waitMsMax;
    this.#pause = pause;
    this.#sharersMax = sharersMax;
  }

  /**
   * True when this SVID may be looked at, at once where it is known; false where too many others are before it. Each caller waits by
   * its own timer: a request of a Worker cannot wait for another one.
   */
  async admit(key: string, now: number, isKnown: () => boolean): Promise<boolean> {
    if (isKnown()) return true;
    const place = this.#places.get(key);
    if (place === undefined || !this.#isShared(place, now)) return await this.#take(key, now);
    this.#sharers += 1;
    let waitedMs = 0;
    try {
      for (const afterMs of looksAfterMs) {
        const waitMs = Math.max(0, place.dueMs + afterMs - now - waitedMs);
        await this.#pause(waitMs);
        waitedMs += waitMs;
        if (isKnown()) return true;
      }
    } finally {
      this.#sharers -= 1;
    }
    return await this.#take(key, now + waitedMs);
  }

  /** A place that is due later than any wait was given before a clock went back. */
  #isShared({ dueMs }: Place, now: number): boolean {
    return now < dueMs + lastLookMs && dueMs <= now + this.#waitMsMax && this.#sharers < this.#sharersMax;
  }

  async #take(key: string, now: number): Promise<boolean> {
    const waitMs = this.#pace.admit(now);
    if (waitMs === null) return false;
    for (const [earlier, { dueMs }] of this.#places) {
      if (now < dueMs + lastLookMs) break;
      this.#places.delete(earlier);
    }
    this.#places.delete(key);
    this.#places.set(key, { dueMs: now + waitMs });
    if (waitMs > 0) await this.#pause(waitMs);
    return true;
  }
}
