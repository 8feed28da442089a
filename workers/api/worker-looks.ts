// What the platform's workers show of themselves, as this isolate saw it last: whoever asks /healthz is told that, so that a load
// balancer that asks each second costs no three calls each time. Made by platform-workers.ts.
//
// What was seen is kept, and no promise: a request of a Worker cannot wait for another one's calls. So one request looks anew while
// the others are told what was seen before; once that is too old each looks for itself.

import type { Clock } from "../../shared/contract/ports.ts";
import type { ShownIdentity } from "../../shared/identity/platform/worker-caller.ts";

/** From this age on one request looks anew. */
export const lookEveryMs = 5_000;
/** What is told is at most so old. */
export const lookAgeMaxMs = 10_000;

export interface WorkerLook {
  /** When the look began, ms since 1970 UTC. */
  readonly at_ms: number;
  /** Null: one of them did not show who it is. */
  readonly workers: readonly ShownIdentity[] | null;
}

export class WorkerLooks {
  readonly #clock: Clock;
  readonly #look: () => Promise<readonly ShownIdentity[] | null>;
  #last: WorkerLook | null = null;
  #lookingSinceMs = Number.NEGATIVE_INFINITY;

  /** `look` gives null, and does not reject, where a worker did not show who it is: that is remembered as well. */
  constructor(clock: Clock, look: () => Promise<readonly ShownIdentity[] | null>) {
    this.#clock = clock;
    this.#look = look;
  }

  async get(): Promise<WorkerLook> {
    const now = this.#clock();
    const last = this.#last;
    const ageMs = last === null ? Number.POSITIVE_INFINITY : now - last.at_ms;
    // A clock that went back makes nothing young again.
    if (last === null || ageMs < 0 || ageMs >= lookAgeMaxMs) return await this.#lookNow(now);
    const isLooking = now >= this.#lookingSinceMs && now - this.#lookingSinceMs < lookEveryMs;
    return ageMs < lookEveryMs || isLooking ? last : await this.#lookNow(now);
  }

  async #lookNow(at_ms: number): Promise<WorkerLook> {
    this.#lookingSinceMs = at_ms;
    const seen = { at_ms, workers: await this.#look() };
    // Two looks may end in another order than they began.
    if (this.#last === null || seen.at_ms >= this.#last.at_ms || this.#last.at_ms > this.#clock()) this.#last = seen;
    return seen;
  }
}
