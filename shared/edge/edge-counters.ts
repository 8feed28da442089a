// What a fetcher counts since it began, for `maestro edge status` and for whoever scrapes it. Written by edge-fetcher.ts.

import { z } from "@hono/zod-openapi";
import { timestamp } from "../contract/names.ts";
import type { RefusalCode } from "./refusal.ts";

const count = z.int().min(0);
const byName = z.record(z.string(), count);

export const edgeCounts = z.strictObject({
  refreshes: count,
  activated: count,
  current: count,
  behind: count.describe("answers of providers that were older than what is held, and unexpired"),
  refused: byName.describe("by the refusal's code"),
  refused_by_provider: byName,
  mismatches: count.describe("answers with other bytes than their name says"),
  fetches: count.describe("of bundles, deltas and statements"),
  attempts: count.describe("of these, at providers"),
  hedges: count,
  failovers: count,
  // Absent from files of before there were deltas.
  deltas_applied: count.default(0),
  deltas_failed: count.default(0).describe("each followed by the whole bundle"),
  delta_bytes: count.default(0).describe("of deltas that came"),
  whole_bytes: count.default(0).describe("of whole bundles that came"),
  // Absent from files of before fetchers had SVIDs.
  svid_rotations: count.default(0).describe("SVIDs that came in place of another"),
  svid_lapses: count.default(0).describe("times that no SVID that holds was there"),
  refreshed_at: timestamp.nullable().describe("when metadata was last found fresh, new or not"),
  refreshed_from: z.string().nullable(),
});
export type EdgeCounts = z.infer<typeof edgeCounts>;

export const noCounts = (): EdgeCounts => ({
  refreshes: 0,
  activated: 0,
  current: 0,
  behind: 0,
  refused: {},
  refused_by_provider: {},
  mismatches: 0,
  fetches: 0,
  attempts: 0,
  hedges: 0,
  failovers: 0,
  deltas_applied: 0,
  deltas_failed: 0,
  delta_bytes: 0,
  whole_bytes: 0,
  svid_rotations: 0,
  svid_lapses: 0,
  refreshed_at: null,
  refreshed_from: null,
});

const mismatches: ReadonlySet<RefusalCode> = new Set([
  "wrong_digest",
  "wrong_length",
  "wrong_tar_digest",
  "mix_and_match",
  "statement_disagrees",
]);

type Counted =
  | "refreshes"
  | "activated"
  | "current"
  | "behind"
  | "fetches"
  | "hedges"
  | "failovers"
  | "deltas_applied"
  | "deltas_failed"
  | "delta_bytes"
  | "whole_bytes"
  | "svid_rotations"
  | "svid_lapses";

export class EdgeCounters {
  readonly #counts: EdgeCounts;

  /** `counts`: where it goes on from. */
  constructor(counts: EdgeCounts = noCounts()) {
    this.#counts = structuredCopy(counts);
  }

  add(name: Counted, by = 1): void {
    this.#counts[name] += by;
  }

  refreshed(at: number, from: string): void {
    this.#counts.refreshed_at = new Date(at).toISOString();
    this.#counts.refreshed_from = from;
  }

  attempts(by: number): void {
    this.#counts.attempts += by;
  }

  refused(code: RefusalCode, provider: string | null): void {
    const { refused, refused_by_provider: ofProviders } = this.#counts;
    refused[code] = (refused[code] ?? 0) + 1;
    if (provider !== null) ofProviders[provider] = (ofProviders[provider] ?? 0) + 1;
    if (mismatches.has(code)) this.#counts.mismatches += 1;
  }

  read(): EdgeCounts {
    return structuredCopy(this.#counts);
  }
}

const structuredCopy = (counts: EdgeCounts): EdgeCounts => ({
  ...counts,
  refused: { ...counts.refused },
  refused_by_provider: { ...counts.refused_by_provider },
});
