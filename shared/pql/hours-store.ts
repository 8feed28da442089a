// Rows of counts in Postgres: an hour is sealed once no event can come into it any more, a day once its last hour is. Called
// by the audit worker for the tenant's log (shared/audit/log.ts decides when), and by nobody else.

import { sql, type SQL } from "drizzle-orm";
import type { EventType } from "../contract/events.ts";
import { inBatch, type Database, type Row } from "../tenancy/database.ts";
import type { DayCount, HourCount } from "../contract/event-counts.ts";
import { dayMs, hourMs, slotMs } from "./scan-parts.ts";

/** The most events that one call counts; an hour with more is taken as one. */
const sealedEventsMax = 50_000;
/** An hour of a million events takes about 3 s. */
const sealTimeoutMs = 15_000;

interface Sealing {
  /** How far the caller knows the hours to be sealed, from the answer before; null: it knows of none. */
  readonly from: number | null;
  /** A UTC hour. Every event that was or ever will be logged before it stands in audit_events. */
  readonly to: number;
}

/** What stands sealed from `from` on. Times are milliseconds since 1970. */
export interface Sealed {
  /** Every hour before it has its rows, every whole day before it too. Before `to`: call again with this as `from`. */
  readonly sealed_to: number;
  readonly hours: readonly HourCount[];
  readonly days: readonly DayCount[];
}

/**
 * Seals the next hours before `to`, as many as have `eventsMax` events, in one transaction, and answers what stands sealed from
 * `from` on, durably. Where more stands than `from` knows of, since an answer was lost or another was faster, nothing is added:
 * the answer tells of that first, so that no count is ever left out. `database` connects as maestro_audit.
 */
export async function sealHours(
  database: Database,
  tenantId: string,
  { from, to }: Sealing,
  eventsMax: number = sealedEventsMax,
): Promise<Sealed> {
  const tenant = sql`${tenantId}::uuid`;
  const answers = await inBatch(database, [
    settings,
    // Locks the tenant's row: of two at once the second one sees, in the statements below, what the first one did.
    sql`insert into audit_sealed as sealed (tenant_id, sealed_seq) values (${tenant}, 0)
      on conflict (tenant_id) do update set sealed_seq = sealed.sealed_seq`,
    sealHoursSql(tenant, from, to, eventsMax),
    sealDaysSql(tenant),
    standing(tenant, from),
  ]);
  const answer = answers.at(-1)?.[0];
  if (answer === undefined) throw new Error("the tenant's row of audit_sealed is gone");
  return {
    sealed_to: Number(answer["sealed_to"]),
    hours: countsOf(answer, "hours").map(([hour, type, rows, groups]) => ({
      hour,
      type,
      rows: rows!,
      groups: groups!,
    })),
    days: countsOf(answer, "days").map(([day, type, groups]) => ({ day, type, groups: groups! })),
  };
}

const countsOf = (answer: Row, name: string): (readonly [at: number, type: EventType, ...counts: number[]])[] =>
  JSON.parse(String(answer[name])) as [number, EventType, ...number[]][];

const settings = sql`select set_config('statement_timeout', ${String(sealTimeoutMs)}, true),
  set_config('work_mem', '32MB', true), set_config('jit', 'off', true), set_config('enable_seqscan', 'off', true)`;

const time = (ms: number | null): SQL => sql`${ms === null ? null : new Date(ms).toISOString()}::timestamptz`;
const hourOf = (column: SQL): SQL => sql`date_trunc('hour', ${column}, 'UTC')`;
const dayOf = (column: SQL): SQL => sql`date_trunc('day', ${column}, 'UTC')`;
/** One count a slot, from rows with a number in `slot`. */
const slotSums = (count: number, counted: SQL): SQL =>
  sql.join(
    Array.from(
      { length: count },
      (_, slot) => sql`coalesce(sum(${counted}) filter (where slot = ${sql.raw(String(slot))}), 0)::int`,
    ),
    sql`, `,
  );

/** Events have their times in the order of `seq`, so that an hour's are a stretch of `seq`. */
const sealHoursSql = (tenant: SQL, from: number | null, to: number, eventsMax: number): SQL => sql`
  with sealed as (select sealed_seq, sealed_to from audit_sealed where tenant_id = ${tenant}),
    following as (
      select ${hourOf(sql`e.logged_at`)} as hour from audit_events e
      where e.tenant_id = ${tenant} and e.seq >= (select sealed_seq from sealed) order by e.seq limit 1
    ),
    beyond as (
      select ${hourOf(sql`e.logged_at`)} as hour from audit_events e
      where e.tenant_id = ${tenant} and e.seq >= (select sealed_seq from sealed) + ${eventsMax}::int order by e.seq limit 1
    ),
    span as materialized (
      select sealed.sealed_seq as from_seq, coalesce(following.hour, ${time(to)}) as first_hour, case
          when beyond.hour is null then ${time(to)}
          else least(${time(to)}, greatest(beyond.hour, following.hour + interval '1 hour'))
        end as sealed_to
      from sealed left join following on true left join beyond on true
      where (sealed.sealed_to is null or sealed.sealed_to <= ${time(from)})
        and (sealed.sealed_to is null or sealed.sealed_to < ${time(to)})
    ),
    open as materialized (
      select e.seq from audit_events e
      where e.tenant_id = ${tenant} and e.seq >= (select from_seq from span) and e.logged_at >= (select sealed_to from span)
      order by e.seq limit 1
    ),
    cells as materialized (
      select ${hourOf(sql`e.logged_at`)} as hour, e.type, e.outcome, e.package,
        extract(minute from e.logged_at at time zone 'UTC')::int / ${sql.raw(String(slotMs / 60_000))} as slot,
        count(*) as n, max(e.seq) as seq
      from audit_events e
      where e.tenant_id = ${tenant} and e.seq >= (select from_seq from span)
        and e.seq < coalesce((select seq from open), 9223372036854775807)
      group by 1, 2, 3, 4, 5
    ),
    counted as (
      select hour, type, outcome, package, grouping(package) = 1 as is_sum, sum(n)::int as total,
        array[${slotSums(hourMs / slotMs, sql`n`)}] as slots
      from cells
      group by grouping sets ((hour, type, outcome, package), (hour, type, outcome))
    ),
    inserted as (
      insert into audit_hours (tenant_id, is_sum, type, hour, outcome, package, total, slots)
      select ${tenant}, is_sum, type, hour, outcome, package, total, slots from counted
      order by is_sum, type, hour, outcome, package
    )
  update audit_sealed set sealed_to = span.sealed_to,
    sealed_seq = coalesce((select max(seq) + 1 from cells), sealed_seq),
    days_to = coalesce(days_to, ${dayOf(sql`span.first_hour`)})
  from span where tenant_id = ${tenant}`;

/** Each whole day that the hours have come past. */
const sealDaysSql = (tenant: SQL): SQL => sql`
  with sealed as (
      select days_to, ${dayOf(sql`sealed_to`)} as to_day from audit_sealed where tenant_id = ${tenant}
    ),
    inserted as (
      insert into audit_days (tenant_id, is_sum, type, day, outcome, package, total, slots)
      select ${tenant}, is_sum, type, ${dayOf(sql`hour`)} as day, outcome, package, sum(total)::int,
        array[${slotSums(dayMs / hourMs, sql`total`)}]
      from (
        select *, extract(hour from hour at time zone 'UTC')::int as slot from audit_hours
        where tenant_id = ${tenant} and is_sum = any('{false,true}') and hour >= (select days_to from sealed)
          and hour < (select to_day from sealed)
      ) as hours
      group by is_sum, type, day, outcome, package
      order by is_sum, type, day, outcome, package
    )
  update audit_sealed set days_to = greatest(audit_sealed.days_to, sealed.to_day)
  from sealed where tenant_id = ${tenant}`;

/** By hour and type, and by day and type; a day with the hour that its last one is sealed with. */
const standing = (tenant: SQL, from: number | null): SQL => sql`
  select (extract(epoch from sealed.sealed_to) * 1000)::bigint::text as sealed_to,
    (select coalesce(json_agg(json_build_array((extract(epoch from hour) * 1000)::bigint, type, rows, groups)), '[]') from (
      select hour, type, sum(total) filter (where is_sum) as rows, count(*) as groups from audit_hours
      where tenant_id = ${tenant} and is_sum = any('{false,true}') and hour >= ${begin(from, hourMs)}
      group by hour, type order by hour, type
    ) as hours)::text as hours,
    (select coalesce(json_agg(json_build_array((extract(epoch from day) * 1000)::bigint, type, groups)), '[]') from (
      select day, type, count(*) as groups from audit_days
      where tenant_id = ${tenant} and is_sum = any('{false,true}') and day >= ${begin(from, dayMs)}
      group by day, type order by day, type
    ) as days)::text as days
  from audit_sealed sealed where sealed.tenant_id = ${tenant}`;

/** Of the first hour or day that was not sealed as a whole at `from`. */
const begin = (from: number | null, step: number): SQL =>
  from === null ? sql`'-infinity'::timestamptz` : time(Math.floor(from / step) * step);
