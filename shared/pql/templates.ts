// The fixed table of PQL's SQL: one template a kind of answer. Values are parameters, identifiers come from the
// catalogue. test/contract/pql-explain.test.ts asserts for each that no sequential scan is in its plan; a template
// without that assertion fails there. store.ts runs them.

import { sql, type SQL } from "drizzle-orm";
import { conditionSql, groupSql, time } from "./condition-sql.ts";
import type { Plan, TemplateName } from "./plan.ts";
import { fitsSlots, scanParts } from "./scan-parts.ts";
import { everyCells, leadersCells, leadersWays, totalsByName } from "./slot-sql.ts";

type PlanOf<Name extends TemplateName> = Extract<Plan, { readonly template: Name }>;
type GroupsPlan = PlanOf<"buckets" | "top" | "top_buckets">;

/** Where a page of rows begins: strictly before this row, newest first. */
export interface RowPosition {
  readonly logged_at: number;
  readonly seq: number;
}

/** What a template needs beside its plan. */
export interface Bounds {
  /** The tenant, as a value; row security holds without it. */
  readonly tenant: SQL;
  readonly before: RowPosition | null;
  readonly page_rows: number;
  readonly counted_rows_max: number;
  readonly open_cells_max: number;
  /** Where rows of counts may be read up to, a UTC hour; null: there are none. See `scanParts`. */
  readonly sealed_to: number | null;
  /** Whose totals and series are asked for. */
  readonly names?: readonly (string | null)[];
}

/** The plans of each template: those that ask for rows of counts have templates of their own. */
interface TemplatePlans {
  readonly rows: PlanOf<"rows">;
  readonly buckets: PlanOf<"buckets">;
  readonly top: PlanOf<"top">;
  readonly top_buckets: PlanOf<"top_buckets">;
  readonly sealed_buckets: PlanOf<"buckets">;
  readonly sealed_top: PlanOf<"top">;
  readonly sealed_top_buckets: PlanOf<"top_buckets">;
  readonly sealed_names: PlanOf<"top" | "top_buckets">;
  readonly open_cells: GroupsPlan;
}
export type Template = keyof TemplatePlans;

const wireTime = (column: SQL): SQL => sql`to_char(${column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`;

export const templates: {
  readonly [Name in Template]: (plan: TemplatePlans[Name], bounds: Bounds) => SQL;
} = {
  // The index has one ordered run a type: each gives its newest page, and the newest page of these is the answer.
  rows: (plan, bounds) => sql`
    select ${wireTime(sql`e.logged_at`)} as logged_at, e.seq::text as seq, ${wireTime(sql`e.occurred_at`)} as occurred_at,
      e.event_id, e.type, e.source, e.principal, e.execution_id, e.package, e.version, e.channel, e.outcome, e.rule,
      e.action, e.units::text as units, e.duration_ms::text as duration_ms, e.attrs
    from unnest(${sql.param(plan.types)}::text[]) as kinds (type)
    cross join lateral (
      select * from audit_events e
      where e.tenant_id = ${bounds.tenant} and e.type = kinds.type
        and e.logged_at >= ${time(plan.from)} and e.logged_at < ${time(plan.to)}
        and ${positionSql(bounds.before)} and ${conditionSql(plan.condition)}
      order by e.logged_at desc, e.seq desc
      limit ${bounds.page_rows + 1}
    ) e
    order by e.logged_at desc, e.seq desc
    limit ${bounds.page_rows + 1}`,

  buckets: (plan, bounds) => sql`
    with matched as (${matched(plan, bounds, slotSql(plan), sql`null::text`)}),
      counted as (select slot, count(*) as n from matched group by slot)
    select null::int as rank, null::text as name, json_agg(json_build_array(slot, n))::text as cells from counted
    having count(*) > 0`,

  top: (plan, bounds) => sql`
    with matched as (${matched(plan, bounds, sql`0`, groupSql(plan.field))}),
      totals as (select name, count(*) as total from matched group by name),
      ranked as (select name, total, ${rankSql} as rank from totals),
      kept as (
        select case when rank <= ${plan.top} then rank end as rank, case when rank <= ${plan.top} then name end as name,
          total
        from ranked
      )
    select rank::int as rank, name, json_build_array(json_build_array(0, sum(total)))::text as cells
    from kept group by rank, name`,

  // One scan counts the cells; the rest works on cells. NULL joins NULL: it is a name of its own.
  top_buckets: (plan, bounds) => sql`
    with matched as (${matched(plan, bounds, slotSql(plan), groupSql(plan.field))}),
      counted as materialized (select slot, name, count(*) as n from matched group by slot, name),
      totals as (select name, sum(n) as total from counted group by name),
      ranked as (select name, ${rankSql} as rank from totals),
      leaders as (select name, rank from ranked where rank <= ${plan.top}),
      kept as (
        select leaders.rank, leaders.name, counted.slot, sum(counted.n) as n
        from counted left join leaders
          on (leaders.name is null) = (counted.name is null)
            and coalesce(leaders.name, '') = coalesce(counted.name, '')
        group by leaders.rank, leaders.name, counted.slot
      )
    select rank::int as rank, name, json_agg(json_build_array(slot, n))::text as cells
    from kept group by rank, name`,

  // The same three from rows of counts. What is sealed and what is not are two statements, since the first one's answer is kept:
  // rows as `SealedRow` has them, of totals the largest names alone. sealed-counts.ts puts the two together.
  sealed_buckets: (plan, bounds) => sql`
    select 0 as rank, null::text as name, cells::text as cells, null::text as names, null::text as sum
    from (${everyCells(plan, bounds.tenant, bounds.sealed_to)}) as every`,

  sealed_top: (plan, bounds) => sql`with ${listedSql(plan, bounds)} ${totalsRow}`,

  // Two phases in one snapshot: the totals, from the coarsest rows, choose the leaders, and some more; only their series are read.
  sealed_top_buckets: (plan, bounds) => sql`
    with ${listedSql(plan, bounds)},
      leaders as materialized (select name from listed where rank <= ${plan.top + leadersMore}::int)
    ${totalsRow}
    union all select 1, name, cells::text, null, null from (${leadersCells(plan, bounds.tenant, bounds.sealed_to)}) as led
    union all select 0, null, cells::text, null, null from (${everyCells(plan, bounds.tenant, bounds.sealed_to)}) as every`,

  // Of some names, whatever their rank is.
  sealed_names: (plan, bounds) => sql`
    with leaders as materialized (
        select name from unnest(${sql.param(bounds.names ?? [])}::text[]) as asked (name)
      ),
      totals as materialized (${totalsByName(plan, bounds.tenant, bounds.sealed_to, leadersWays(plan))})
    select null::int as rank, null::text as name,
      json_agg(json_build_array(leaders.name, coalesce(totals.total, 0)))::text as cells, null::text as names, null::text as sum
    from leaders left join totals on totals.name is not distinct from leaders.name
    ${
      plan.template === "top"
        ? sql``
        : sql`union all select 1, name, cells::text, null, null
          from (${leadersCells(plan, bounds.tenant, bounds.sealed_to)}) as led`
    }`,

  // What is not sealed, as `OpenCell`s; one more than may be, so that the worker can tell.
  open_cells: (plan, bounds) => {
    const bucket = "bucket_ms" in plan ? slotSql(plan) : sql`0`;
    const name = "field" in plan ? groupSql(plan.field) : sql`null::text`;
    return sql`select coalesce(json_agg(json_build_array(slot, name, n)), '[]')::text as cells
      from (select * from (${openCounts(plan, bounds, bucket, name)}) as all_of_them limit ${bounds.open_cells_max + 1}) as counted`;
  },
};

/** True where a question reads rows of counts, which may be read up to `sealedTo`. */
export function isBySlots(plan: Plan, sealedTo: number | null): boolean {
  if (plan.template === "rows" || sealedTo === null || !fitsSlots(plan)) return false;
  const { totals, series } = scanParts(plan, sealedTo);
  return [...totals, ...series].some(({ level }) => level !== "raw");
}

/** The SQL of a plan that reads events alone. */
export function statementOf(plan: Plan, bounds: Bounds): SQL {
  if (plan.template === "rows") return templates.rows(plan, bounds);
  if (plan.template === "buckets") return templates.buckets(plan, bounds);
  if (plan.template === "top") return templates.top(plan, bounds);
  return templates.top_buckets(plan, bounds);
}

/** The SQL of a plan's sealed hours. */
export function sealedStatementOf(plan: GroupsPlan, bounds: Bounds): SQL {
  if (plan.template === "buckets") return templates.sealed_buckets(plan, bounds);
  if (plan.template === "top") return templates.sealed_top(plan, bounds);
  return templates.sealed_top_buckets(plan, bounds);
}

/** Largest first; ties by name in the order of code points, and the missing name last. */
const rankSql = sql`row_number() over (order by total desc, name collate "C" asc nulls last)`;

/** The plan's rows as (slot, name); one more than may be counted, so that the worker can tell. */
const matched = (plan: Plan, bounds: Bounds, slot: SQL, name: SQL): SQL => sql`
  ${eventsOf(plan, bounds, slot, name)}
  limit ${bounds.counted_rows_max + 1}`;

const eventsOf = (plan: Plan, bounds: Bounds, slot: SQL, name: SQL): SQL => sql`
  select ${slot} as slot, ${name} as name from audit_events e
  where e.tenant_id = ${bounds.tenant} and e.type = any(${sql.param(plan.types)}::text[])
    and e.logged_at >= ${time(plan.from)} and e.logged_at < ${time(plan.to)} and ${conditionSql(plan.condition)}`;

/** The events of what is not sealed, counted; together one more than may be counted. */
function openCounts(plan: GroupsPlan, bounds: Bounds, slot: SQL, name: SQL): SQL {
  const parts = scanParts(plan, bounds.sealed_to).totals.filter(({ level }) => level === "raw");
  const scans = parts.map((part) => eventsOf({ ...plan, from: part.from, to: part.to }, bounds, slot, name));
  return sql`select slot, name, count(*) as n from (
      ${scans.length === 0 ? sql`select null::int, null::text where false` : sql.join(scans, sql` union all `)}
      limit ${bounds.counted_rows_max + 1}
    ) as matched (slot, name) group by slot, name`;
}

/** So many names' totals are kept, the largest. */
const namesListedMax = 1_000;
/** So many series more than were asked for: whoever comes in by the events since is often among them. */
const leadersMore = 4;

const listedSql = (plan: PlanOf<"top" | "top_buckets">, bounds: Bounds): SQL => sql`
    totals as materialized (${totalsByName(plan, bounds.tenant, bounds.sealed_to)}),
      listed as materialized (
        select name, total, rank from (select name, total, ${rankSql} as rank from totals) as ranked
        where rank <= ${namesListedMax}::int
      )`;
const totalsRow = sql`
    select null::int as rank, null::text as name,
      (select coalesce(json_agg(json_build_array(name, total) order by rank), '[]') from listed)::text as cells,
      count(*)::text as names, coalesce(sum(total), 0)::text as sum
    from totals`;

/** The number of a row's bucket, from 0. Buckets are UTC and half-open: an instant on the edge begins the next one. */
function slotSql(plan: PlanOf<"buckets" | "top_buckets">): SQL {
  // A double has the microseconds of a century to spare, and is three times as fast as numeric.
  return sql`floor((date_part('epoch', e.logged_at) - ${plan.from / 1000}::bigint) / ${plan.bucket_ms / 1000}::int)::int`;
}

const positionSql = (before: RowPosition | null): SQL =>
  before === null ? sql`true` : sql`(e.logged_at, e.seq) < (${time(before.logged_at)}, ${before.seq}::bigint)`;
