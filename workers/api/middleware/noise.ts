// How many log lines strangers can make: requests that nobody is known for have a line each up to a rate, and are counted
// beyond it. One an isolate, asked by visit.ts. What an isolate that ends had counted and not told is lost with it.

import type { ProblemCode } from "../../../shared/contract/problems.ts";

/** Lines at once, and lines a second after that. */
export const noiseLinesMax = 100;
export const noiseLinesPerSecond = 10;

/** What had no line of its own: how many requests by code, since when (ms since 1970). */
export interface Unlogged {
  readonly since: number;
  readonly counts: Readonly<Record<string, number>>;
}

export class NoiseGate {
  #lines = noiseLinesMax;
  #filledAt = Number.NEGATIVE_INFINITY;
  #since = 0;
  readonly #counts = new Map<ProblemCode | "none", number>();

  /** True: this one has its line. Otherwise it was counted. */
  admit(now: number, code: ProblemCode | null): boolean {
    const passed = Math.max(0, now - this.#filledAt);
    this.#lines = Math.min(noiseLinesMax, this.#lines + (passed * noiseLinesPerSecond) / 1_000);
    this.#filledAt = now;
    if (this.#lines >= 1) {
      this.#lines -= 1;
      return true;
    }
    if (this.#counts.size === 0) this.#since = now;
    const name = code ?? "none";
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + 1);
    return false;
  }

  /** What was counted since the last time that somebody asked; null: nothing. */
  takeUnlogged(): Unlogged | null {
    if (this.#counts.size === 0) return null;
    const counts = Object.fromEntries(this.#counts);
    this.#counts.clear();
    return { since: this.#since, counts };
  }
}
