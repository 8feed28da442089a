// Reports of fetchers, as a test needs them.

import { derivedId } from "../../shared/contract/ids.ts";
import type { EdgeReport, FetcherCounts, ReportedPolicy } from "../../shared/contract/http-edge.ts";

export const start = Date.parse("2026-04-13T16:00:00.000Z");
export const hourMs = 3_600_000;
const iso = (at: number): string => new Date(at).toISOString();

export const fetcherIdOf = (number: number): string =>
  derivedId(
    "fetcher",
    Uint8Array.from({ length: 16 }, (_, at) => (at < 12 ? 0 : Math.floor(number / 256 ** (15 - at)))),
  );

const noCounts: FetcherCounts = {
  refreshes: 0,
  activated: 0,
  fetches: 0,
  failovers: 0,
  hedges: 0,
  behind: 0,
  refusals: 0,
  mismatches: 0,
  deltas_applied: 0,
  deltas_failed: 0,
  delta_bytes: 0,
  whole_bytes: 0,
  stale_ms: 0,
};

export interface ReportOptions extends Partial<Pick<EdgeReport, "boot" | "boot_id" | "sequence" | "policies">> {
  readonly instance?: number;
  readonly now?: number;
  readonly counts?: Partial<FetcherCounts>;
  readonly svid?: EdgeReport["svid"];
  /** Mismatches by provider. */
  readonly mismatches?: Readonly<Record<string, number>>;
}

export function policyOf(revision: number | null, more: Partial<ReportedPolicy> = {}, now = start): ReportedPolicy {
  const active =
    revision === null
      ? null
      : {
          revision,
          tar_sha256: tarOf(revision),
          activated_at: iso(now),
          expires_at: iso(now + 24 * hourMs),
          provider: "a",
        };
  return { policy: "gateway", channel: "stable", active, refusal: null, ...more };
}

export const tarOf = (revision: number): string => String(revision).padStart(64, "0");

export function reportOf(options: ReportOptions = {}): EdgeReport {
  const { instance = 1, now = start, boot = 1, counts = {}, mismatches = { a: 0, b: 0 } } = options;
  return {
    instance: fetcherIdOf(instance),
    boot,
    boot_id: options.boot_id ?? String(boot).padStart(32, "0"),
    sequence: options.sequence ?? 1,
    sent_at: iso(now),
    policies: options.policies ?? [policyOf(1, {}, now)],
    metadata: {
      root_version: 1,
      targets_version: 1,
      timestamp_version: 1,
      timestamp_expires_at: iso(now + 23 * hourMs),
      verified_at: iso(now - 250),
      provider: "a",
    },
    providers: Object.entries(mismatches).map(([name, count]) => ({
      name,
      breaker: "closed",
      latency_ms: 3,
      cache_hits: 9,
      cache_misses: 1,
      mismatches: count,
    })),
    counts: { ...noCounts, ...counts },
    svid: options.svid ?? null,
  };
}
