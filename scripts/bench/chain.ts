// `npm run bench -- chain`: how long an audit event takes from its commit in the Postgres outbox to the signed manifest in
// the bucket and to the row that PQL asks, under a fixed load; and how long a run's disclosure takes from its finish.

import type { Benchmark, Figures } from "./benchmark.ts";
import { measureDisclosure } from "./disclosure.ts";
import { measureLoad } from "./measured-load.ts";
import { loadSetting } from "./schedule.ts";

const loads = [
  loadSetting({ name: "one_tenant", events_per_s: 2_500, tenants: 1, duration_s: 20 }),
  loadSetting({ name: "twenty_tenants", events_per_s: 500, tenants: 20, duration_s: 20 }),
] as const;
/** Unmeasured: connections, compiled code and SQLite's first pages are not what a lag is about. */
const warmUp = loadSetting({ name: "warm-up", events_per_s: 1_000, tenants: 2, duration_s: 3 });
const disclosureRuns = 50;

export const chain: Benchmark = {
  about: "an event from its commit to the bucket and to PQL's table, and a run from its finish to its disclosure link",
  settings: { loads, warm_up: warmUp, disclosure_runs: disclosureRuns, nudge: "the drain object's, after each commit" },

  async run(bench) {
    await measureLoad(bench, warmUp);
    const parts: Record<string, Figures> = {};
    for (const setting of loads) parts[setting.name] = await measureLoad(bench, setting);
    parts["disclosure"] = await measureDisclosure(bench, disclosureRuns);
    return parts;
  },

  headline(parts) {
    const worst = (figure: string): number => Math.max(...loads.map(({ name }) => parts[name]![figure]!.max));
    const medians = (part: string, names: readonly string[]): [string, number][] =>
      names.map((name) => [name, parts[part]![name]!.median]);
    return {
      lost: worst("lost"),
      duplicated: worst("duplicated"),
      gaps: worst("gaps"),
      ...Object.fromEntries([
        ...medians(loads[0].name, [
          "lag_p50_s",
          "lag_p95_s",
          "manifest_lag_p50_s",
          "manifest_lag_p95_s",
          "puts_per_event",
        ]),
        ...medians("disclosure", ["disclosure_p50_ms", "disclosure_p95_ms"]),
      ]),
    };
  },

  faults: (parts) =>
    loads.flatMap(({ name }) =>
      ["lost", "duplicated", "gaps"].flatMap((figure) => {
        const { max } = parts[name]![figure]!;
        return max === 0 ? [] : [`${name}: ${figure} is ${max}, and must be 0`];
      }),
    ),
};
