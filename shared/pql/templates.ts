// The fixed table of PQL's SQL: one template a kind of answer. Values are parameters, identifiers come from the
// catalogue. test/contract/pql-explain.test.ts asserts for each that no sequential scan is in its plan; a template
// without that assertion fails there. store.ts runs them.

import { sql, type SQL } from "drizzle-orm";
import { conditionSql, groupSql, time } from "./condition-sql.ts";
import type { Plan, TemplateName } from "./plan.ts";
import { fitsSlots, scanParts } from "./scan-parts.ts";
import { everyCount, leadersCounts, totalsByName } from "./slot-sql.ts";

type PlanOf<Name extends TemplateName> = Extract<Plan, { readonly template: Name }>;

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
  /** Where rows of counts may be read up to, a UTC hour; null: there are none. See `scanParts`. */
  readonly sealed_to: number | null;
}

/** The plans of each template: those that ask for rows of counts have templates of their own. */
interface TemplatePlans {
  readonly rows: PlanOf<"rows">;
  readonly buckets: PlanOf<"buckets">;
  readonly top: PlanOf<"top">;
  readonly top_buckets: PlanOf<"top_buckets">;
  readonly buckets_by_slots: PlanOf<"buckets">;
  readonly top_by_slots: PlanOf<"top">;
  readonly top_buckets_by_slots: PlanOf<"top_buckets">;
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

  // The same three from rows of counts, and from the events of what is not sealed. A cell is [slot, counts of it and of those
  // after it]; `raw_rows` is how many events were read.
  buckets_by_slots: (plan, bounds) => sql`
    with raw as materialized (${rawCounts(plan, bounds, slotSql(plan), sql`null::text`)}),
      every as (${everyCount(plan, bounds.tenant, bounds.sealed_to)}
        union all select slot, array[n] from raw)
    select null::int as rank, null::text as name, json_agg(json_build_array(first, counts))::text as cells, ${rawRowsSql}
    from every having count(*) > 0`,

  top_by_slots: (plan, bounds) => sql`
    with raw as materialized (${rawCounts(plan, bounds, sql`0`, groupSql(plan.field))}),
      totals as (${totalsByName(plan, bounds.tenant, bounds.sealed_to)}),
      ranked as (select name, total, ${rankSql} as rank from totals),
      kept as (
        select case when rank <= ${plan.top} then rank end as rank, case when rank <= ${plan.top} then name end as name,
          total
        from ranked
      )
    select rank::int as rank, name, json_build_array(json_build_array(0, array[sum(total)]))::text as cells, ${rawRowsSql}
    from kept group by rank, name`,

  // Two phases in one snapshot: the totals, from the coarsest rows, choose the leaders; only their series are read. What is left
  // over is all (rank 0) less the leaders, so that no other name's series is read at all.
  top_buckets_by_slots: (plan, bounds) => sql`
    with raw as materialized (${rawCounts(plan, bounds, slotSql(plan), groupSql(plan.field))}),
      totals as (${totalsByName(plan, bounds.tenant, bounds.sealed_to)}),
      leaders as materialized (
        select name, rank from (select name, ${rankSql} as rank from totals) as ranked where rank <= ${plan.top}
      ),
      series as (${leadersCounts(plan, bounds.tenant, bounds.sealed_to)}
        union all select name, slot, array[n] from raw),
      every as (${everyCount(plan, bounds.tenant, bounds.sealed_to)}
        union all select slot, array[sum(n)::bigint] from raw group by slot)
    select leaders.rank::int as rank, leaders.name, json_agg(json_build_array(series.first, series.counts))::text as cells,
      ${rawRowsSql}
    from leaders join series
      on (leaders.name is null) = (series.name is null) and coalesce(leaders.name, '') = coalesce(series.name, '')
    group by leaders.rank, leaders.name
    union all
    select 0, null, json_agg(json_build_array(first, counts))::text, ${rawRowsSql} from every having count(*) > 0`,
};

/** Which template answers a plan, where rows of counts may be read up to `sealedTo`. */
export function templateOf(plan: Plan, sealedTo: number | null): Template {
  if (plan.template === "rows" || sealedTo === null || !fitsSlots(plan)) return plan.template;
  const { totals, series } = scanParts(plan, sealedTo);
  const isRaw = [...totals, ...series].every(({ level }) => level === "raw");
  return isRaw ? plan.template : `${plan.template}_by_slots`;
}

/** The SQL of any plan. */
export function statementOf(plan: Plan, bounds: Bounds): SQL {
  const isRaw = templateOf(plan, bounds.sealed_to) === plan.template;
  if (plan.template === "rows") return templates.rows(plan, bounds);
  if (plan.template === "buckets") return templates[isRaw ? "buckets" : "buckets_by_slots"](plan, bounds);
  if (plan.template === "top") return templates[isRaw ? "top" : "top_by_slots"](plan, bounds);
  return templates[isRaw ? "top_buckets" : "top_buckets_by_slots"](plan, bounds);
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
function rawCounts(plan: Exclude<Plan, { template: "rows" }>, bounds: Bounds, slot: SQL, name: SQL): SQL {
  const parts = scanParts(plan, bounds.sealed_to).totals.filter(({ level }) => level === "raw");
  const scans = parts.map((part) => eventsOf({ ...plan, from: part.from, to: part.to }, bounds, slot, name));
  return sql`select slot, name, count(*) as n from (
      ${scans.length === 0 ? sql`select null::int, null::text where false` : sql.join(scans, sql` union all `)}
      limit ${bounds.counted_rows_max + 1}
    ) as matched (slot, name) group by slot, name`;
}

const rawRowsSql = sql`(select coalesce(sum(n), 0) from raw)::text as raw_rows`;

/** The number of a row's bucket, from 0. Buckets are UTC and half-open: an instant on the edge begins the next one. */
function slotSql(plan: PlanOf<"buckets" | "top_buckets">): SQL {
  const step = plan.bucket_ms / 1000;
  const bucket = sql`date_bin(make_interval(secs => ${step}::int), e.logged_at, timestamptz '1970-01-01 00:00:00Z')`;
  return sql`((extract(epoch from ${bucket})::bigint - ${plan.from / 1000}::bigint) / ${step}::int)::int`;
}

const positionSql = (before: RowPosition | null): SQL =>
  before === null ? sql`true` : sql`(e.logged_at, e.seq) < (${time(before.logged_at)}, ${before.seq}::bigint)`;
