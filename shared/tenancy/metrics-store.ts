// Counters of the API by tenant, in Postgres: added to in the transaction of what they count, so that they count neither
// more nor less; read by GET /api/metrics. Workers have no process whose memory could hold them.

import { sql, type SQL } from "drizzle-orm";
import { asTenant, type Database } from "./database.ts";

/** Every counter, with its help text. */
export const metrics = {
  mc_entitlement_denies_total: "Installs, upgrades, rollbacks and runs that the marketplace's rules denied.",
  mc_channel_upgrades_total: "Upgrades of installs: started, widened, completed, aborted, rolled back.",
} as const;
export type MetricName = keyof typeof metrics;

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

/** Prometheus' text format, version 0.0.4, of one tenant's counters. */
export async function metricsText(database: Database, tenantId: string): Promise<string> {
  const [rows] = await asTenant(database, tenantId, [
    sql`select metric, labels, value::text as value from metric_counters where tenant_id = ${tenantId}
        order by metric, labels`,
  ]);
  return Object.entries(metrics)
    .map(([name, help]) => {
      const samples = (rows ?? [])
        .filter((row) => row["metric"] === name)
        .map((row) => `${name}{${String(row["labels"])}} ${String(row["value"])}\n`);
      return `# HELP ${name} ${help}\n# TYPE ${name} counter\n${samples.join("")}`;
    })
    .join("");
}
