// Names that were good within the last hour: their files are read from the store beside those that anybody makes up, and never
// in their place. Held by fetchers.ts for keys, and by workloads.ts for SPIFFE IDs.

const goodMsMax = 3_600_000;
const namesMax = 8_192;

export class GoodLately {
  /** When it was good last, ms since 1970; the longest ago first. */
  readonly #at = new Map<string, number>();

  has(name: string, now: number): boolean {
    return now - (this.#at.get(name) ?? -Infinity) < goodMsMax;
  }

  note(name: string, now: number): void {
    this.#at.delete(name);
    this.#at.set(name, now);
    for (const oldest of this.#at.keys()) {
      if (this.#at.size <= namesMax) break;
      this.#at.delete(oldest);
    }
  }

  forget(name: string): void {
    this.#at.delete(name);
  }
}
