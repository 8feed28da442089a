// The fixed table of PQL's SQL: one template a kind of answer. Values are parameters, identifiers come from the
// catalogue. test/contract/pql-explain.test.ts asserts for each that no sequential scan is in its plan; a template
// without that assertion fails there. store.ts runs them.

import { sql, type SQL } from "drizzle-orm";
import type { Field } from "./catalogue.ts";
import type { Condition, Plan, TemplateName, Test, Value } from "./plan.ts";

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
}

const time = (ms: number): SQL => sql`${new Date(ms).toISOString()}::timestamptz`;
const wireTime = (column: SQL): SQL => sql`to_char(${column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`;

export const templates: {
  readonly [Name in TemplateName]: (plan: PlanOf<Name>, bounds: Bounds) => SQL;
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
};

/** The SQL of any plan. */
export function statementOf(plan: Plan, bounds: Bounds): SQL {
  if (plan.template === "rows") return templates.rows(plan, bounds);
  if (plan.template === "buckets") return templates.buckets(plan, bounds);
  if (plan.template === "top") return templates.top(plan, bounds);
  return templates.top_buckets(plan, bounds);
}

/** Largest first; ties by name in the order of code points, and the missing name last. */
const rankSql = sql`row_number() over (order by total desc, name collate "C" asc nulls last)`;

/** The plan's rows as (slot, name); one more than may be counted, so that the worker can tell. */
const matched = (plan: Plan, bounds: Bounds, slot: SQL, name: SQL): SQL => sql`
  select ${slot} as slot, ${name} as name from audit_events e
  where e.tenant_id = ${bounds.tenant} and e.type = any(${sql.param(plan.types)}::text[])
    and e.logged_at >= ${time(plan.from)} and e.logged_at < ${time(plan.to)} and ${conditionSql(plan.condition)}
  limit ${bounds.counted_rows_max + 1}`;

/** The number of a row's bucket, from 0. Buckets are UTC and half-open: an instant on the edge begins the next one. */
function slotSql(plan: PlanOf<"buckets" | "top_buckets">): SQL {
  const step = plan.bucket_ms / 1000;
  const bucket = sql`date_bin(make_interval(secs => ${step}::int), e.logged_at, timestamptz '1970-01-01 00:00:00Z')`;
  return sql`((extract(epoch from ${bucket})::bigint - ${plan.from / 1000}::bigint) / ${step}::int)::int`;
}

const positionSql = (before: RowPosition | null): SQL =>
  before === null ? sql`true` : sql`(e.logged_at, e.seq) < (${time(before.logged_at)}, ${before.seq}::bigint)`;

/**
 * A field's value. Attributes are read from the leaf's own JSON: numbers as numbers, everything else as the text that
 * it is there, where a time has one form only and sorts as it reads.
 */
function valueSql(field: Field): SQL {
  if ("column" in field) return sql`e.${sql.identifier(field.column)}`;
  const text = sql`(e.attrs::json ->> ${field.attribute}::text)`;
  return sqlTypeOf(field) === "numeric" ? sql`${text}::numeric` : text;
}

const groupSql = (field: Field): SQL => sql`${valueSql(field)}::text`;

function conditionSql(condition: Condition | null): SQL {
  if (condition === null) return sql`true`;
  if ("of" in condition) {
    const parts = condition.of.map((part) => conditionSql(part));
    return sql`(${sql.join(parts, condition.kind === "and" ? sql` and ` : sql` or `)})`;
  }
  const { field, negated } = condition;
  if (condition.kind === "exists") return sql`(${valueSql(field)} is ${negated ? sql`null` : sql`not null`})`;
  const test = testSql(condition, field);
  // A test of NULL is unknown, which WHERE, AND and OR take for false; negated it must be true.
  return negated ? sql`((${test}) is not true)` : sql`(${test})`;
}

function testSql(test: Exclude<Test, { readonly kind: "exists" }>, field: Field): SQL {
  const value = valueSql(field);
  const type = sqlTypeOf(field);
  if (test.kind === "like") return sql`${value} like ${test.pattern}::text`;
  if (test.kind === "in") {
    const values = test.values.map((one) => parameter(field, one));
    return sql`${value} = any(${sql.param(values)}::${sql.raw(`${type}[]`)})`;
  }
  // Text is ordered by code points, whatever the database's locale.
  const side = type === "text" && test.op !== "=" ? sql`${value} collate "C"` : value;
  return sql`${side} ${operators[test.op]} ${parameter(field, test.value)}::${sql.raw(type)}`;
}

const operators = { "=": sql`=`, "<": sql`<`, "<=": sql`<=`, ">": sql`>`, ">=": sql`>=` } as const;

function sqlTypeOf(field: Field): "text" | "bigint" | "numeric" | "timestamptz" {
  const stored = "column" in field;
  if (field.kind === "integer" || field.kind === "duration") return stored ? "bigint" : "numeric";
  return field.kind === "timestamp" && stored ? "timestamptz" : "text";
}

function parameter(field: Field, value: Value): string | number {
  if (field.kind === "timestamp") return new Date(Number(value)).toISOString();
  return typeof value === "boolean" ? String(value) : value;
}
