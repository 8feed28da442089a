// What the templates read from rows of counts (audit_hours, audit_days): totals by name, the leaders' counts, everyone's counts.
// Each part of a question's range is a stretch of an index, or a few slots of one hour. Used by templates.ts.

import { sql, type SQL } from "drizzle-orm";
import { conditionSql, groupSql, time } from "./condition-sql.ts";
import type { Plan, TemplateName } from "./plan.ts";
import { dayMs, fieldsOf, hourMs, scanParts, slotMs, type ScanPart } from "./scan-parts.ts";

type PlanOf<Name extends TemplateName> = Extract<Plan, { readonly template: Name }>;

/** Rows of counts that one scan reads: of these hours or days, and in each the slots [first, last], from 0. */
interface Stretch {
  readonly level: "hour" | "day";
  readonly ranges: readonly Range[];
  readonly first: number;
  readonly last: number;
}
/** Half-open, milliseconds since 1970. */
interface Range {
  readonly from: number;
  readonly to: number;
}

const rowMs = { hour: hourMs, day: dayMs } as const;
const slotMsOf = { hour: slotMs, day: hourMs } as const;
const lastSlot = { hour: hourMs / slotMs - 1, day: dayMs / hourMs - 1 } as const;
const tables = { hour: sql`audit_hours`, day: sql`audit_days` } as const;
const times = { hour: sql`e.hour`, day: sql`e.day` } as const;

/**
 * An hour that a part begins or ends inside of is a stretch of its own. It is not both: a question that reads rows of counts is
 * about an hour at least, so that its part goes to that hour's end. The hours before and behind the days are one stretch:
 * planning a scan costs about as much as running a small one.
 */
function stretchesOf(parts: readonly ScanPart[]): readonly Stretch[] {
  const inner: Record<Stretch["level"], Range[]> = { hour: [], day: [] };
  const edges: Stretch[] = [];
  for (const { level, from, to } of parts) {
    if (level === "raw") continue;
    const [row, slot] = [rowMs[level], slotMsOf[level]];
    const [begin, end] = [from - (from % row), to - (to % row)];
    const whole = { from: begin < from ? begin + row : begin, to: end };
    if (begin < from)
      edges.push({
        level,
        ranges: [{ from: begin, to: begin + row }],
        first: (from - begin) / slot,
        last: lastSlot[level],
      });
    if (whole.from < whole.to) inner[level].push(whole);
    if (end < to && end >= whole.from)
      edges.push({ level, ranges: [{ from: end, to: end + row }], first: 0, last: (to - end) / slot - 1 });
  }
  const levels = (["hour", "day"] as const).filter((level) => inner[level].length > 0);
  return [...levels.map((level) => ({ level, ranges: inner[level], first: 0, last: lastSlot[level] })), ...edges];
}

/**
 * Of counts by bucket. Where a bucket is a slot of an hour, the range's first hour is read as a whole: what comes before the
 * range has numbers below 0, which the worker drops.
 */
const seriesOf = (plan: PlanOf<"buckets" | "top_buckets">, sealedTo: number | null): readonly Stretch[] =>
  stretchesOf(
    scanParts(plan, sealedTo).series.map((part) =>
      part.level === "hour" && plan.bucket_ms === slotMs ? { ...part, from: part.from - (part.from % hourMs) } : part,
    ),
  );

const isWhole = ({ level, first, last }: Stretch): boolean => first === 0 && last === lastSlot[level];

/** Slots are counted from 1 in Postgres. */
const slotsSql = ({ first, last }: Stretch): SQL[] =>
  Array.from({ length: last - first + 1 }, (_, at) => sql.raw(`e.slots[${first + at + 1}]`));

/** Of one row of counts, what it counts in the stretch. */
const totalSql = (stretch: Stretch): SQL =>
  isWhole(stretch) ? sql`e.total` : sql`(${sql.join(slotsSql(stretch), sql` + `)})`;

const asksPackage = (plan: Plan): boolean => fieldsOf(plan.condition).some(({ name }) => name === "package");

/** `isSum`: rows over all packages, which are few. */
const rowsSql = (plan: Plan, tenant: SQL, { level, ranges }: Stretch, isSum: boolean): SQL => sql`
  from ${tables[level]} e
  where e.tenant_id = ${tenant} and e.is_sum = ${sql.raw(String(isSum))} and e.type = any(${sql.param(plan.types)}::text[])
    and ${rangesSql(level, ranges)} and ${conditionSql(plan.condition)}`;

/** Two ranges are the hours of less than a day each; they are named one by one, as what the index searches for. */
function rangesSql(level: Stretch["level"], ranges: readonly Range[]): SQL {
  const [range, ...others] = ranges;
  if (range !== undefined && others.length === 0)
    return sql`${times[level]} >= ${time(range.from)} and ${times[level]} < ${time(range.to)}`;
  const rows = ranges.flatMap(({ from, to }) =>
    Array.from({ length: (to - from) / rowMs[level] }, (_, at) => new Date(from + at * rowMs[level]).toISOString()),
  );
  return sql`${times[level]} = any(${sql.param(rows)}::timestamptz[])`;
}

/** (name, total), of names that occur; `raw` is the events' part of it. */
export function totalsByName(plan: PlanOf<"top" | "top_buckets">, tenant: SQL, sealedTo: number | null): SQL {
  const isSum = !asksPackage(plan) && plan.field.name !== "package";
  const scans = stretchesOf(scanParts(plan, sealedTo).totals).map(
    (stretch) =>
      sql`union all select ${groupSql(plan.field)}, ${totalSql(stretch)} ${rowsSql(plan, tenant, stretch, isSum)}`,
  );
  return sql`select name, sum(n) as total from (select name, n from raw ${sql.join(scans, sql` `)}) as counts
    group by name having sum(n) > 0`;
}

/** (name, first, counts) of the names in `leaders`: `counts` are of the buckets from number `first` on. */
export function leadersCounts(plan: PlanOf<"top_buckets">, tenant: SQL, sealedTo: number | null): SQL {
  const name = groupSql(plan.field);
  const isPackage = plan.field.name === "package";
  const isSum = !asksPackage(plan) && !isPackage;
  // The index finds names, and a missing name, but not either of them at once.
  const wanted = isPackage
    ? [
        sql`and e.package = any(array(select name from leaders where name is not null))`,
        sql`and e.package is null and (select bool_or(name is null) from leaders)`,
      ]
    : [sql``];
  const scans = seriesOf(plan, sealedTo).flatMap((stretch) =>
    wanted.map(
      (some) => sql`select ${name} as name, ${countsSql(plan, stretch)} ${rowsSql(plan, tenant, stretch, isSum)} ${some}
        group by 1, 2`,
    ),
  );
  return sql.join(scans, sql` union all `);
}

/** (first, counts), whatever the name. */
export function everyCount(plan: PlanOf<"buckets" | "top_buckets">, tenant: SQL, sealedTo: number | null): SQL {
  const scans = seriesOf(plan, sealedTo).map(
    (stretch) =>
      sql`select ${countsSql(plan, stretch)} ${rowsSql(plan, tenant, stretch, !asksPackage(plan))} group by 1`,
  );
  return sql.join(scans, sql` union all `);
}

/** A bucket is a slot, or a row, or several rows; never less than a slot, nor a part of a row otherwise: see `scanParts`. */
function countsSql(plan: PlanOf<"buckets" | "top_buckets">, stretch: Stretch): SQL {
  const bySlot = plan.bucket_ms < rowMs[stretch.level];
  const counts = bySlot ? slotsSql(stretch) : [totalSql(stretch)];
  const step = plan.bucket_ms / 1000;
  const first = sql`((extract(epoch from ${times[stretch.level]})::bigint - ${plan.from / 1000}::bigint) / ${step}::int)::int`;
  return sql`${first} + ${bySlot ? stretch.first : 0}::int as first,
    array[${sql.join(
      counts.map((count) => sql`sum(${count})`),
      sql`, `,
    )}] as counts`;
}
