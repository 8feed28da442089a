// Counters and histograms of the API by tenant, in Postgres: added to in the transaction of what they count, so that they count neither
// more nor less; read by GET /api/metrics. Workers have no process whose memory could hold them.

import { sql, type SQL } from "drizzle-orm";
import { asTenant, type Database } from "./database.ts";

/** Every counter, with its help text. */
export const metrics = {
  mc_entitlement_denies_total: "Installs, upgrades, rollbacks and runs that the marketplace's rules denied.",
  mc_channel_upgrades_total: "Upgrades of installs: started, widened, completed, aborted, rolled back.",
} as const;
export type MetricName = keyof typeof metrics;

/** Every histogram of milliseconds, with its help text and the upper ends of its buckets. Its rows are counters too. */
export const histograms = {
  mc_disclosure_link_tat_ms: {
    help: "From a run's finish (or from the first ask, where that was later) to its first disclosure link. Once a run.",
    buckets: [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 120_000, 300_000],
  },
} as const;
export type HistogramName = keyof typeof histograms;

/** INSERT that counts each row of `source`, a query's name with the column `ms`: at most one row a statement. */
export function observeMs(tenantId: string, name: HistogramName, source: SQL): SQL {
  const ends = sql.param([...histograms[name].buckets]);
  const one = (part: string, labels: SQL, value: SQL, from: SQL): SQL =>
    sql`select ${tenantId}::uuid, ${`${name}_${part}`}, ${labels}, ${value} from ${from}`;
  return sql`insert into metric_counters (tenant_id, metric, labels, value)
    ${one("bucket", sql`'le="' || upper_end || '"'`, sql`1`, sql`${source}, unnest(${ends}::bigint[]) as upper_end where ms <= upper_end`)}
    union all ${one("bucket", sql`'le="+Inf"'`, sql`1`, source)}
    union all ${one("sum", sql`''`, sql`ms`, source)}
    union all ${one("count", sql`''`, sql`1`, source)}
    on conflict (tenant_id, metric, labels) do update set value = metric_counters.value + excluded.value`;
}

/**
 * A statement that adds `by` to a counter; `guard` (`where exists (select from changed)`) as for outbox rows. Label values
 * are machine words of ours: nothing that a caller wrote.
 */
export function countMetric(
  tenantId: string,
  name: MetricName,
  labels: Readonly<Record<string, string>>,
  by = 1,
  guard: SQL = sql``,
): SQL {
  return sql`insert into metric_counters (tenant_id, metric, labels, value)
    select ${tenantId}::uuid, ${name}, ${labelText(labels)}, ${by}::bigint ${guard}
    on conflict (tenant_id, metric, labels) do update set value = metric_counters.value + excluded.value`;
}

function labelText(labels: Readonly<Record<string, string>>): string {
  return Object.entries(labels)
    .toSorted(([left], [right]) => (left < right ? -1 : 1))
    .map(([name, value]) => {
      if (!/^[a-z0-9_.:-]{1,64}$/.test(value)) throw new TypeError(`not a label value: ${value}`);
      return `${name}="${value}"`;
    })
    .join(",");
}

/** Prometheus' text format, version 0.0.4, of one tenant's counters and histograms. */
export async function metricsText(database: Database, tenantId: string): Promise<string> {
  const [rows = []] = await asTenant(database, tenantId, [
    sql`select metric, labels, value::text as value from metric_counters where tenant_id = ${tenantId}
        order by metric, labels`,
  ]);
  const samples = rows.map((row): Sample => ({
    metric: String(row["metric"]),
    labels: String(row["labels"]),
    value: String(row["value"]),
  }));
  return [
    ...Object.entries(metrics).map(([name, help]) => counterText(name, help, samples)),
    ...Object.entries(histograms).map(([name, { help, buckets }]) => histogramText(name, help, buckets, samples)),
  ].join("");
}

interface Sample {
  readonly metric: string;
  readonly labels: string;
  readonly value: string;
}

const heading = (name: string, help: string, type: string): string =>
  `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`;

function counterText(name: string, help: string, samples: readonly Sample[]): string {
  const own = samples.filter(({ metric }) => metric === name);
  return heading(name, help, "counter") + own.map(({ labels, value }) => `${name}{${labels}} ${value}\n`).join("");
}

/** Nothing but its heading where nothing was measured; else every bucket, also those that nothing fell into. */
function histogramText(name: string, help: string, buckets: readonly number[], samples: readonly Sample[]): string {
  const of = (part: string, labels = ""): string =>
    samples.find(({ metric, labels: known }) => metric === `${name}_${part}` && known === labels)?.value ?? "0";
  if (of("count") === "0") return heading(name, help, "histogram");
  const ends = [...buckets.map(String), "+Inf"].map((end) => `le="${end}"`);
  return [
    heading(name, help, "histogram"),
    ...ends.map((end) => `${name}_bucket{${end}} ${of("bucket", end)}\n`),
    `${name}_sum ${of("sum")}\n`,
    `${name}_count ${of("count")}\n`,
  ].join("");
}
