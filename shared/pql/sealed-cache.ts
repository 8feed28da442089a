// Counts of sealed hours that were read, in the isolate's memory: the next question like it reads the events since, and no more.
// They never change. Called by store.ts; made once an isolate.

import { BoundedCache, type BoundedCacheLimits } from "./bounded-cache.ts";
import type { Plan } from "./plan.ts";
import type { SealedCounts } from "./sealed-counts.ts";
import { scanParts } from "./scan-parts.ts";

/** An isolate has 128 MB. */
export const sealedCacheLimits: BoundedCacheLimits = { entries_max: 2_000, bytes_max: 24 * 1024 * 1024 };

export class SealedCache {
  readonly #entries: BoundedCache<SealedCounts>;

  constructor(limits: BoundedCacheLimits = sealedCacheLimits) {
    this.#entries = new BoundedCache(limits);
  }

  get(key: string): SealedCounts | null {
    return this.#entries.get(key);
  }

  put(key: string, counts: SealedCounts): void {
    this.#entries.put(key, counts, sizeOf(counts));
  }
}

/**
 * What the counts are counts of: the tenant, the question without its end, and the stretches of sealed hours. `plan` begins with
 * its hour (`fromItsHour`), so that a question has the same key until that hour passes, or another one is sealed.
 */
export function sealedKey(tenantId: string, plan: Plan, sealedTo: number | null): string {
  const { totals, series } = scanParts(plan, sealedTo);
  const stretches = [totals, series].map((parts) => parts.filter(({ level }) => level !== "raw"));
  const asked = { ...plan, from: "bucket_ms" in plan ? plan.from : null, to: null };
  return JSON.stringify([tenantId, asked, stretches]);
}

/** About what it takes in memory: 8 bytes a count, 100 a name and a series. */
function sizeOf({ every, totals, series }: SealedCounts): number {
  const names = [...totals.keys(), ...series.keys()].reduce((sum, name) => sum + 100 + 2 * (name?.length ?? 0), 0);
  const counts = [...series.values()].reduce((sum, { length }) => sum + length, every.length);
  return 1_000 + names + 8 * counts;
}
