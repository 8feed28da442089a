// What the templates read from rows of counts (audit_hours, audit_days): totals by name, the leaders' rows, everyone's rows. A row
// goes out as it is, its begin and its slots: sealed-counts.ts has how the worker adds them up. A small statement's cost is mostly
// that of parsing and planning its scans, so that there are few of them. Used by templates.ts.

import { sql, type SQL } from "drizzle-orm";
import { conditionSql, groupSql, time } from "./condition-sql.ts";
import type { Plan, TemplateName } from "./plan.ts";
import { asksPackage, dayMs, floorTo, hourMs, scanParts, slotMs, type ScanPart } from "./scan-parts.ts";

type PlanOf<Name extends TemplateName> = Extract<Plan, { readonly template: Name }>;

/** Rows of counts that one scan reads: the hours or days of these ranges, which may begin and end inside of a row. */
interface Scan {
  readonly level: "hour" | "day";
  readonly ranges: readonly Range[];
}
/** Half-open, milliseconds since 1970. */
interface Range {
  readonly from: number;
  readonly to: number;
}

const rowMs = { hour: hourMs, day: dayMs } as const;
const slotMsOf = { hour: slotMs, day: hourMs } as const;
const slotCount = { hour: hourMs / slotMs, day: dayMs / hourMs } as const;
const tables = { hour: sql`audit_hours`, day: sql`audit_days` } as const;
const times = { hour: sql`e.hour`, day: sql`e.day` } as const;

/** One scan a level: the hours before and behind the days are in one. */
const scansOf = (parts: readonly ScanPart[]): readonly Scan[] =>
  (["hour", "day"] as const)
    .map((level) => ({ level, ranges: parts.filter((part) => part.level === level) }))
    .filter(({ ranges }) => ranges.length > 0);

/** The row of which a range has the later slots alone, and the one of which it has the first ones. */
const cutRows = ({ level, ranges }: Scan): readonly (Range & { readonly row: number })[] =>
  ranges.flatMap(({ from, to }) => {
    const [first, last] = [floorTo(from, rowMs[level]), floorTo(to, rowMs[level])];
    return [
      ...(first < from ? [{ row: first, from, to: Math.min(to, first + rowMs[level]) }] : []),
      ...(last < to && (last > first || first === from) ? [{ row: last, from: Math.max(last, from), to }] : []),
    ];
  });

/**
 * Whole rows, and each row that a range cuts: two kinds of scans, since the totals of whole rows are in the index, and slots are not.
 */
function totalScans(scan: Scan): readonly { readonly scan: Scan; readonly total: SQL }[] {
  const { level } = scan;
  const cuts = cutRows(scan);
  const isCut = (row: number): boolean => cuts.some((cut) => cut.row === row);
  const whole = scan.ranges
    .map(({ from, to }) => {
      const [first, last] = [floorTo(from, rowMs[level]), floorTo(to, rowMs[level])];
      return { from: isCut(first) ? first + rowMs[level] : first, to: last };
    })
    .filter(({ from, to }) => from < to);
  const slot = (ms: number, row: number): number => (ms - row) / slotMsOf[level];
  return [
    ...(whole.length === 0 ? [] : [{ scan: { level, ranges: whole }, total: sql`e.total` }]),
    ...cuts.map(({ row, from, to }) => ({
      scan: { level, ranges: [{ from: row, to: row + rowMs[level] }] },
      // Slots are counted from 1 in Postgres.
      total: sql`(select sum(n) from unnest(e.slots[${slot(from, row) + 1}::int:${slot(to, row)}::int]) as cut (n))`,
    })),
  ];
}

/** `isSum`: rows over all packages, which are few. */
const rowsSql = (plan: Plan, tenant: SQL, { level, ranges }: Scan, isSum: boolean): SQL => sql`
  e.tenant_id = ${tenant} and e.is_sum = ${sql.raw(String(isSum))} and e.type = any(${sql.param(plan.types)}::text[])
    and ${rangesSql(level, ranges)} and ${conditionSql(plan.condition)}`;

/** Two ranges are the hours of less than a day each; they are named one by one, as what the index searches for. */
function rangesSql(level: Scan["level"], ranges: readonly Range[]): SQL {
  const begin = ({ from }: Range): number => floorTo(from, rowMs[level]);
  const [range, ...others] = ranges;
  if (range !== undefined && others.length === 0)
    return sql`${times[level]} >= ${time(begin(range))} and ${times[level]} < ${time(range.to)}`;
  const rows = ranges.flatMap((one) =>
    Array.from({ length: Math.ceil((one.to - begin(one)) / rowMs[level]) }, (_, at) =>
      new Date(begin(one) + at * rowMs[level]).toISOString(),
    ),
  );
  return sql`${times[level]} = any(${sql.param(rows)}::timestamptz[])`;
}

/** (name, total), of names that occur; `ways`: of which ones. */
export function totalsByName(
  plan: PlanOf<"top" | "top_buckets">,
  tenant: SQL,
  sealedTo: number | null,
  ways: readonly SQL[] = [sql`true`],
): SQL {
  const isSum = !asksPackage(plan) && plan.field.name !== "package";
  const scans = scansOf(scanParts(plan, sealedTo).totals)
    .flatMap(totalScans)
    .flatMap(({ scan, total }) =>
      ways.map(
        (way) => sql`select ${groupSql(plan.field)}, ${total} from ${tables[scan.level]} e
          where ${rowsSql(plan, tenant, scan, isSum)} and ${way}`,
      ),
    );
  return sql`select name, sum(n) as total from (${sql.join(scans, sql` union all `)}) as counts (name, n)
    group by name having sum(n) > 0`;
}

/** Rows of those in `leaders`. The index finds names, and a missing name, but not either of them at once. */
export function leadersWays({ field }: PlanOf<"top" | "top_buckets">): readonly SQL[] {
  const name = groupSql(field);
  const named = sql`array(select name from leaders where name is not null)`;
  const unnamed = sql`(select bool_or(name is null) from leaders)`;
  return field.name === "package"
    ? [sql`e.package = any(${named})`, sql`e.package is null and ${unnamed}`]
    : [sql`(${name} = any(${named}) or (${name} is null and ${unnamed}))`];
}

/** (name, cells) of those in `leaders`, a row a scan. */
export function leadersCells(plan: PlanOf<"top_buckets">, tenant: SQL, sealedTo: number | null): SQL {
  const name = groupSql(plan.field);
  const isPackage = plan.field.name === "package";
  const isSum = !asksPackage(plan) && !isPackage;
  const ways = leadersWays(plan);
  const isAdded = isManyRows(plan) || (asksPackage(plan) && !isPackage);
  const scans = scansOf(scanParts(plan, sealedTo).series).flatMap((scan) =>
    ways.map((way) => {
      const from = sql`from ${tables[scan.level]} e where ${rowsSql(plan, tenant, scan, isSum)} and ${way}`;
      return isAdded
        ? sql`select name, ${cellsOfAdded} from (
            select ${name} as name, ${beginSql(scan)} as begin, ${addedSql(plan, scan)} as counts ${from} group by 1, 2
          ) as added group by name`
        : sql`select ${name} as name, ${cellsSql(plan, scan)} ${from} group by 1`;
    }),
  );
  return sql.join(scans, sql` union all `);
}

/** (cells), whatever the name, a row a scan. */
export function everyCells(plan: PlanOf<"buckets" | "top_buckets">, tenant: SQL, sealedTo: number | null): SQL {
  const isAdded = isManyRows(plan) || asksPackage(plan);
  const scans = scansOf(scanParts(plan, sealedTo).series).map((scan) => {
    const from = sql`from ${tables[scan.level]} e where ${rowsSql(plan, tenant, scan, !asksPackage(plan))}`;
    return isAdded
      ? sql`select ${cellsOfAdded} from (
          select ${beginSql(scan)} as begin, ${addedSql(plan, scan)} as counts ${from} group by 1
        ) as added having count(*) > 0`
      : sql`select ${cellsSql(plan, scan)} ${from} having count(*) > 0`;
  });
  return sql.join(scans, sql` union all `);
}

/**
 * An hour has a row a type, outcome and name. Where these are many they are added in Postgres: that costs more to plan, and
 * keeps the answer as small as its buckets are.
 */
const typesFewMax = 3;
const isManyRows = (plan: Plan): boolean => plan.types.length > typesFewMax;

/** Whether a row is needed by its slots: where a bucket is less than a row, or a range begins or ends inside of one. */
const needsSlots = (plan: PlanOf<"buckets" | "top_buckets">, scan: Scan): boolean =>
  plan.bucket_ms < rowMs[scan.level] || cutRows(scan).length > 0;

const beginSql = ({ level }: Scan): SQL => sql`date_part('epoch', ${times[level]})::bigint`;

/** As `SlotCells` of sealed-counts.ts: whole arrays become JSON in half the time that an array a row takes. */
const cellsSql = (plan: PlanOf<"buckets" | "top_buckets">, scan: Scan): SQL =>
  sql`json_build_array(array_agg(${beginSql(scan)}), array_agg(${needsSlots(plan, scan) ? sql`e.slots` : sql`e.total`})) as cells`;

const cellsOfAdded = sql`json_build_array(array_agg(begin), array_agg(counts)) as cells`;

function addedSql(plan: PlanOf<"buckets" | "top_buckets">, scan: Scan): SQL {
  const slots = Array.from({ length: slotCount[scan.level] }, (_, at) => sql.raw(`sum(e.slots[${at + 1}])`));
  return needsSlots(plan, scan) ? sql`array[${sql.join(slots, sql`, `)}]` : sql`sum(e.total)`;
}
