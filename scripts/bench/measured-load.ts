// One load through the chain, and its figures at both ends: what was lost, what came twice, how late it was, what it cost.
// Called by the benchmarks of the chain and of the audit log.

import type { Stack } from "../stack/index.ts";
import type { Bench, Figures } from "./benchmark.ts";
import { figuresOf, type Ends } from "./figures.ts";
import { prepareLoad, type Committed } from "./load.ts";
import { processorTime } from "./machine.ts";
import { indexedRows, publishedOf, watchRows } from "./observe.ts";
import type { LoadSetting, Sighting } from "./schedule.ts";
import { rounded } from "./statistics.ts";

/** After the last commit. What is not there by then is lost. */
const arrivalMsMax = 60_000;

export async function measureLoad({ stack, signal, progress }: Bench, setting: LoadSetting): Promise<Figures> {
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
