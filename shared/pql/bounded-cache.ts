// What an isolate keeps in memory for the next question, up to so many entries and bytes: what was used least recently goes
// first. Held by answer-cache.ts and sealed-cache.ts; keys hold the tenant, so that no tenant meets another's values.

export interface BoundedCacheLimits {
  readonly entries_max: number;
  /** Of all entries together; one over a sixteenth is not kept. */
  readonly bytes_max: number;
}

interface Entry<Value> {
  readonly value: Value;
  readonly bytes: number;
}

export class BoundedCache<Value> {
  readonly #limits: BoundedCacheLimits;
  readonly #entries = new Map<string, Entry<Value>>();
  #bytes = 0;

  constructor(limits: BoundedCacheLimits) {
    this.#limits = limits;
  }

  get(key: string): Value | null {
    const entry = this.#entries.get(key);
    if (entry === undefined) return null;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    return entry.value;
  }

  /** `bytes`: about what it takes in memory, its key left out. */
  put(key: string, value: Value, bytes: number): void {
    this.forget(key);
    const entry = { value, bytes: bytes + 2 * key.length };
    if (entry.bytes > this.#limits.bytes_max / 16) return;
    this.#entries.set(key, entry);
    this.#bytes += entry.bytes;
    for (const oldest of this.#entries.keys()) {
      if (this.#entries.size <= this.#limits.entries_max && this.#bytes <= this.#limits.bytes_max) break;
      this.forget(oldest);
    }
  }

  forget(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    this.#bytes -= entry.bytes;
  }
}
