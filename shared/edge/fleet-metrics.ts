// The fleet as Prometheus' text, for GET /api/metrics: written by workers/api/routes/metrics.ts.

import { fleetStates, type FetcherCounts } from "../contract/http-edge.ts";
import type { Fleet } from "./fleet.ts";

/** Instances that have a series of their own: those whose metadata is oldest. */
export const instanceSeriesMax = 50;

type Sample = readonly [labels: Readonly<Record<string, string>>, value: number];

const counters = {
  fetches: ["mc_edge_fetches_total", "Bundles and statements that fetchers asked for."],
  failovers: ["mc_edge_failovers_total", "Asked of another provider, since the first failed."],
  hedges: ["mc_edge_hedges_total", "Asked of another provider as well, since the first was slow."],
  refusals: ["mc_edge_refusals_total", "Answers of providers that fetchers did not take, for whatever reason."],
  deltas_applied: ["mc_edge_deltas_applied_total", "Bundles that were made of the one before by a delta."],
  deltas_failed: ["mc_edge_deltas_failed_total", "Deltas that failed, each followed by the whole bundle."],
  delta_bytes: ["mc_edge_delta_bytes_total", "Bytes of deltas that came to fetchers."],
  whole_bytes: ["mc_edge_whole_bytes_total", "Bytes of whole bundles that came to fetchers."],
  behind: ["mc_edge_behind_total", "Answers of providers that were older than what the fetcher held."],
} as const satisfies Partial<Record<keyof FetcherCounts, readonly [string, string]>>;

/** Label values are names that the contract's schemas have taken: no quotes, no backslashes. */
export function fleetMetricsText({ summary, instances }: Fleet, now: number): string {
  const { counts, providers } = summary;
  const byProvider = (of: (one: (typeof providers)[number]) => number | null): Sample[] =>
    providers.flatMap((one) => {
      const value = of(one);
      return value === null ? [] : [[{ provider: one.name }, value] as const];
    });
  const ages = instances
    .flatMap(({ instance, metadata }) =>
      metadata === null
        ? []
        : [{ instance, ms: now - Date.parse(metadata.timestamp_signed_at), verifiedMs: metadata.verified_ms_ago }],
    )
    .toSorted((one, other) => other.ms - one.ms || other.verifiedMs - one.verifiedMs);
  const shown = ages.slice(0, instanceSeriesMax);
  return [
    series(
      "mc_edge_stale_rate",
      "gauge",
      "Share of policies at instances, without silent ones, that has lacked the newest revision for over 5 s.",
      summary.stale_rate === null ? [] : [[{}, summary.stale_rate]],
    ),
    series(
      "mc_edge_instances",
      "gauge",
      "Fetchers, by the worst state of their policies.",
      ofStates(summary.instances),
    ),
    series("mc_edge_policies", "gauge", "Policies at instances, by state.", ofStates(summary.policies)),
    series(
      "mc_edge_hit_ratio",
      "gauge",
      "Share of a provider's answers that came out of its edge's own cache, as fetchers saw it.",
      byProvider(({ hit_ratio }) => hit_ratio),
    ),
    series(
      "mc_edge_cache_answers_total",
      "counter",
      "Answers to fetchers, by what the edge's own cache had.",
      providers.flatMap((one): Sample[] => [
        [{ provider: one.name, cache: "hit" }, one.cache_hits],
        [{ provider: one.name, cache: "miss" }, one.cache_misses],
      ]),
    ),
    series(
      "mc_edge_mismatches_total",
      "counter",
      "Answers with other bytes than their name or the signed metadata says.",
      byProvider(({ mismatches }) => mismatches),
    ),
    ...(Object.keys(counters) as (keyof typeof counters)[]).map((name) =>
      series(counters[name][0], "counter", counters[name][1], [[{}, counts[name]]]),
    ),
    series(
      "mc_edge_stale_seconds_total",
      "counter",
      "Time in which a fetcher had found no provider's metadata fresh for over 5 s.",
      [[{}, counts.stale_ms / 1_000]],
    ),
    series(
      "mc_edge_manifest_age_seconds",
      "gauge",
      `Since the timestamp was signed that the fetcher trusts: the ${instanceSeriesMax} oldest.`,
      shown.map(({ instance, ms }) => [{ instance }, Math.max(0, ms) / 1_000] as const),
    ),
    series(
      "mc_edge_manifest_verified_seconds",
      "gauge",
      "Since the fetcher last found that timestamp to be the newest: of the same ones.",
      shown.map(({ instance, verifiedMs }) => [{ instance }, verifiedMs / 1_000] as const),
    ),
    series(
      "mc_edge_manifest_age_seconds_max",
      "gauge",
      "Of all fetchers.",
      ages.length === 0 ? [] : [[{}, Math.max(0, ages[0]!.ms) / 1_000]],
    ),
  ].join("");
}

const ofStates = ({ total, ...counts }: Fleet["summary"]["instances"]): Sample[] =>
  total === 0 ? [] : fleetStates.map((state) => [{ state }, counts[state]] as const);

function series(name: string, type: "gauge" | "counter", help: string, samples: readonly Sample[]): string {
  const lines = samples.map(([labels, value]) => {
    const text = Object.entries(labels).map(([label, is]) => `${label}="${is}"`);
    return `${name}${text.length === 0 ? "" : `{${text.join(",")}}`} ${value}\n`;
  });
  return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join("")}`;
}
