// Answers by bucket that still hold: their names as ETags, and the last few in the isolate's memory. Called by ask.ts.
//
// Counts of whole buckets are a function of the tenant, the query's text, the buckets of its range and the events that stand in
// Postgres. What stands there is the meter's `indexed_seq`: while it is the same, and no event that stands was logged at or
// after the instant that the range ended with then, the counts of a range that ends later in the same bucket are the same.

import { sha256Hex, utf8 } from "../contract/bytes.ts";
import type { PqlAnswer } from "../contract/http-pql.ts";
import { BoundedCache, type BoundedCacheLimits } from "./bounded-cache.ts";
import type { MeterHead } from "./meter.ts";
import { bucketCount, type Plan } from "./plan.ts";

type GroupsAnswer = Extract<PqlAnswer, { kind: "groups" }>;

/** What an answer is an answer to, for as long as nothing is logged. Null: its range moves with every millisecond. */
export function questionKey(tenantId: string, queryDigest: string, plan: Plan): string | null {
  if (!("bucket_ms" in plan)) return null;
  return `${tenantId} ${queryDigest} ${plan.from} ${bucketCount(plan.from, plan.to, plan.bucket_ms)}`;
}

/**
 * True where the answer is what the meter's `indexed_seq` names: Postgres was not ahead of the meter, and every event that
 * stood was within the range's end.
 */
export const isNamedBy = (answer: PqlAnswer, plan: Plan, head: MeterHead): boolean =>
  answer.complete_to !== null &&
  head.indexed_to !== null &&
  Date.parse(answer.complete_to) === head.indexed_to &&
  head.indexed_to < plan.to;

/** The same counts for a range that ends later in the same bucket. */
export const withEnd = (answer: GroupsAnswer, to: number): GroupsAnswer => ({
  ...answer,
  covers: { ...answer.covers, to: new Date(to).toISOString() },
});

/**
 * Weak, since `covers.to` follows the clock: who has this tag has the same counts, in the same format. It begins with the
 * `indexed_seq` that it was made at. `representation`: letters and digits.
 */
export async function answerTag(key: string, indexedSeq: number, representation: string): Promise<string> {
  const digest = await sha256Hex(utf8(JSON.stringify([key, indexedSeq, representation])));
  return `W/"${indexedSeq}-${digest.slice(0, 32)}-${representation}"`;
}

/** Tags of an If-None-Match that are looked at. */
const tagsMax = 8;

/** The newest `indexed_seq` of which `ifNoneMatch` has this question's tag; null: of none. */
export async function seqOfTag(key: string, ifNoneMatch: string, representation: string): Promise<number | null> {
  let newest: number | null = null;
  for (const [given, seqText] of [...ifNoneMatch.matchAll(/"(\d{1,15})-[0-9a-f]{32}-\w+"/g)].slice(0, tagsMax)) {
    const seq = Number(seqText);
    const tag = await answerTag(key, seq, representation);
    if (tag === `W/${given}` && (newest === null || seq > newest)) newest = seq;
  }
  return newest;
}

export interface HeldAnswer {
  readonly answer: GroupsAnswer;
  readonly indexed_seq: number;
  readonly kept_at: number;
}

export interface CacheLimits extends BoundedCacheLimits {
  /** Postgres may have been taken back to an older state meanwhile. */
  readonly age_max_ms: number;
}
export const cacheLimits: CacheLimits = { entries_max: 1_000, bytes_max: 16 * 1024 * 1024, age_max_ms: 10_000 };

export class AnswerCache {
  readonly #ageMaxMs: number;
  readonly #entries: BoundedCache<HeldAnswer>;

  constructor(limits: CacheLimits = cacheLimits) {
    this.#ageMaxMs = limits.age_max_ms;
    this.#entries = new BoundedCache(limits);
  }

  /** `now`: milliseconds since 1970. */
  get(key: string, now: number): HeldAnswer | null {
    const held = this.#entries.get(key);
    if (held === null || Math.abs(now - held.kept_at) < this.#ageMaxMs) return held;
    this.#entries.forget(key);
    return null;
  }

  put(key: string, held: HeldAnswer): void {
    this.#entries.put(key, held, sizeOf(held.answer));
  }
}

/** About what it takes in memory: 8 bytes a count, 200 a bucket and a group with its name. */
function sizeOf({ groups, buckets }: GroupsAnswer): number {
  const names = groups.reduce((sum, { name }) => sum + 200 + 2 * (name?.length ?? 0), 0);
  return 1_000 + names + (buckets?.length ?? 0) * (200 + 8 * groups.length);
}
