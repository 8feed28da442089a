// `npm run bench -- chain`: how long an audit event takes from its commit in the Postgres outbox to the signed manifest in
// the bucket and to the row that PQL asks, under a fixed load; and how long a run's disclosure takes from its finish.

import type { Stack } from "../stack/index.ts";
import type { Bench, Benchmark, Figures } from "./benchmark.ts";
import { disclosureRuns, measureDisclosure } from "./disclosure.ts";
import { figuresOf, type Ends } from "./figures.ts";
import { prepareLoad, type Committed } from "./load.ts";
import { processorTime } from "./machine.ts";
import { indexedRows, publishedOf, watchRows } from "./observe.ts";
import type { LoadSetting, Sighting } from "./schedule.ts";
import { rounded } from "./statistics.ts";

const load = (given: Pick<LoadSetting, "name" | "events_per_s" | "tenants">, durationS = 20): LoadSetting => ({
  ...given,
  duration_s: durationS,
  commit_every_ms: 20,
});
const loads = [
  load({ name: "one_tenant", events_per_s: 2_500, tenants: 1 }),
  load({ name: "twenty_tenants", events_per_s: 500, tenants: 20 }),
] as const;
/** Unmeasured: connections, compiled code and SQLite's first pages are not what a lag is about. */
const warmUp = load({ name: "warm-up", events_per_s: 1_000, tenants: 2 }, 3);
/** After the last commit. What is not there by then is lost. */
const arrivalMsMax = 60_000;

export const chain: Benchmark = {
  about: "an event from its commit to the bucket and to PQL's table, and a run from its finish to its disclosure link",
  settings: { loads, warm_up: warmUp, disclosure_runs: disclosureRuns, nudge: "the drain object's, after each commit" },

  async run(bench) {
    await measureLoad(bench, warmUp);
    const parts: Record<string, Figures> = {};
    for (const setting of loads) parts[setting.name] = await measureLoad(bench, setting);
    parts["disclosure"] = await measureDisclosure(bench);
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

async function measureLoad({ stack, signal, progress }: Bench, setting: LoadSetting): Promise<Figures> {
  progress(`${setting.name}: preparing`);
  const tenants = [];
  for (let at = 0; at < setting.tenants; at += 1) {
    signal.throwIfAborted();
    tenants.push(await stack.seedTenant(`${setting.name.replaceAll(/[^a-z]+/g, "-")}-${at}`));
  }
  const prepared = await prepareLoad(stack, setting, tenants);
  const watch = await watchRows(
    stack,
    tenants.map(({ tenant_id: id }) => id),
  );
  try {
    progress(`${setting.name}: ${setting.events_per_s} events/s for ${setting.duration_s} s`);
    const before = processorTime(stack);
    const startedAt = performance.now();
    const committed = await prepared.run(signal);
    progress(`${setting.name}: waiting for the last rows`);
    const expected = tenants.map((_, tenant) => committedIds(committed, tenant).length);
    await watch.until(expected, arrivalMsMax, signal);
    const wallS = (performance.now() - startedAt) / 1_000;
    const after = processorTime(stack);
    const sightings = await watch.stop();
    progress(`${setting.name}: reading both ends back`);
    const ends = [];
    for (const [tenant, { tenant_id: id }] of tenants.entries()) ends.push(await endsOf(stack, id, sightings[tenant]!));
    const figures = figuresOf(committed, ends);
    return {
      ...figures,
      ...(before === null || after === null
        ? {}
        : {
            workerd_cores: rounded((after.workerd_s - before.workerd_s) / wallS, 2),
            postgres_cores: rounded((after.postgres_s - before.postgres_s) / wallS, 2),
            harness_cores: rounded((after.harness_s - before.harness_s) / wallS, 2),
            workerd_us_per_event: rounded(((after.workerd_s - before.workerd_s) * 1e6) / figures["events"]!, 3),
            workerd_waited_share: rounded((after.workerd_waited_s - before.workerd_waited_s) / wallS, 2),
          }),
    };
  } finally {
    await Promise.allSettled([watch.stop(), prepared.close()]);
  }
}

const committedIds = (committed: readonly Committed[], tenant: number): string[] =>
  committed.filter((commit) => commit.tenant === tenant).flatMap(({ event_ids: ids }) => ids);

const endsOf = async (stack: Stack, tenantId: string, sightings: readonly Sighting[]): Promise<Ends> => ({
  indexed: await indexedRows(stack, tenantId),
  published: await publishedOf(stack, tenantId),
  sightings,
});
