// How much work may go into verifying SVIDs that are new to this instance: so much a second altogether, and for each SPIFFE ID.
// Held by workloads.ts. Who is beyond it is asked to come again, and nobody else waits for that.

export interface BudgetBounds {
  /** Microseconds of work for each second that passes, and at most so many saved up. */
  readonly microsPerSecond: number;
  readonly burstMicros: number;
}

/** A twentieth of a processor, half of that for one ID: 833 JWT-SVIDs or 83 certificates a second, after 5,000 or 500 at once. */
export const allBounds: BudgetBounds = { microsPerSecond: 50_000, burstMicros: 300_000 };
export const eachBounds: BudgetBounds = { microsPerSecond: 25_000, burstMicros: 150_000 };
/** The longest unused is forgotten, and begins anew. */
const namesMax = 8_192;

interface Bucket {
  micros: number;
  at: number;
}

export class WorkBudget {
  readonly #all: Bucket = { micros: allBounds.burstMicros, at: 0 };
  /** The longest unused first. */
  readonly #each = new Map<string, Bucket>();

  /** Whether `micros` may be worked for `name` now; they are spent then. */
  take(name: string, micros: number, now: number): boolean {
    const own = this.#each.get(name) ?? { micros: eachBounds.burstMicros, at: now };
    this.#each.delete(name);
    this.#each.set(name, own);
    for (const oldest of this.#each.keys()) {
      if (this.#each.size <= namesMax) break;
      this.#each.delete(oldest);
    }
    fill(own, eachBounds, now);
    fill(this.#all, allBounds, now);
    if (own.micros < micros || this.#all.micros < micros) return false;
    own.micros -= micros;
    this.#all.micros -= micros;
    return true;
  }
}

function fill(bucket: Bucket, { microsPerSecond, burstMicros }: BudgetBounds, now: number): void {
  const gained = (Math.max(0, now - bucket.at) * microsPerSecond) / 1_000;
  bucket.micros = Math.min(burstMicros, bucket.micros + gained);
  bucket.at = now;
}
