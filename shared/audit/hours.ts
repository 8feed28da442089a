// Which hours of the log's rows in Postgres may be sealed there, and how many rows each hour has: questions are answered from
// sealed hours, and priced by their counts (shared/pql, which this room does not know). Called by log.ts.

import type { CountReport, DayCount, HourCount } from "../contract/event-counts.ts";
import type { EventColumns, EventType, LoggedEvent } from "../contract/events.ts";
import type { Sql } from "../contract/ports.ts";
import { readHead, readLeaves, setHead, type Head } from "./tables.ts";

const hourMs = 3_600_000;
/**
 * So long after its end an hour is sealed: late enough that a clock which goes back a little does not give rows a time that is
 * not theirs, and not at all tenants at once.
 */
const sealAfterMs = 30_000;
const sealSpreadMs = 90_000;
export const hourSealedAt = (tenantId: string, hour: number): number => hour + hourMs + waitMs(tenantId);
const waitMs = (tenantId: string): number => sealAfterMs + (Number.parseInt(tenantId.slice(-6), 16) % sealSpreadMs);
/** Hours and days of one report. */
const reportedMax = 2_000;

/** What stands sealed, from where the log knew it to be. */
export interface SealedHours {
  readonly sealed_to: number;
  readonly hours: readonly HourCount[];
  readonly days: readonly DayCount[];
}

/** Within the transaction that moves `indexed` past these rows. */
export function countIndexed(sql: Sql, rows: readonly Pick<EventColumns, "logged_at" | "type">[]): void {
  const counts = new Map<string, { readonly hour: number; readonly type: string; count: number }>();
  for (const { logged_at: loggedAt, type } of rows) {
    const time = Date.parse(loggedAt);
    const hour = time - (time % hourMs);
    const key = `${hour} ${type}`;
    const known = counts.get(key);
    if (known === undefined) counts.set(key, { hour, type, count: 1 });
    else known.count += 1;
  }
  for (const { hour, type, count } of counts.values()) {
    sql.exec(
      `insert into hour_counts (hour, type, row_count, group_count, told) values (?, ?, ?, 0, 0)
       on conflict (hour, type) do update set row_count = row_count + excluded.row_count, told = 0`,
      hour,
      type,
      count,
    );
  }
}

/** The first hour that has rows in Postgres and is not sealed. */
function openHour(sql: Sql, head: Head): number | null {
  const [row] = sql.exec<{ hour: number | null }>(
    "select min(hour) as hour from hour_counts where hour >= ?",
    head.hours_to ?? 0,
  );
  return row?.hour ?? null;
}

/** Before it every hour is over, and every row that was logged stands in Postgres. */
function sealableTo(sql: Sql, head: Head, now: number): number {
  const times = [now - waitMs(head.tenant_id)];
  const [first] = readLeaves(sql, { from: head.indexed, to: head.indexed + 1 });
  if (first !== undefined) times.push(Date.parse((JSON.parse(first.body) as LoggedEvent).logged_at));
  const time = Math.min(...times);
  return time - (time % hourMs);
}

/** When the next hour is to be sealed; null where no row was logged since the last one, or rows are still to be written. */
export function hoursDue(sql: Sql, head: Head, now: number): number | null {
  const hour = openHour(sql, head);
  if (hour === null) return null;
  const due = hourSealedAt(head.tenant_id, hour);
  return due > now || sealableTo(sql, head, now) > hour ? due : null;
}

interface HoursToSeal {
  readonly tenant_id: string;
  readonly from: number | null;
  readonly to: number;
}

/**
 * What may be sealed now; null where nothing may. Within a transaction: from its commit on no row is logged before `to`, also
 * where the clock goes back.
 */
export function planHours(sql: Sql, now: number): HoursToSeal | null {
  const head = readHead(sql);
  const hour = head === null ? null : openHour(sql, head);
  if (head === null || hour === null) return null;
  const to = sealableTo(sql, head, now);
  if (to <= hour) return null;
  if (head.logged_at < to) setHead(sql, { logged_at: to });
  return { tenant_id: head.tenant_id, from: head.hours_to, to };
}

/** Sets down what Postgres answered; it counts, whatever was counted here before. Within a transaction. */
export function takeSealed(sql: Sql, { sealed_to, hours, days }: SealedHours): void {
  for (const { hour, type, rows, groups } of hours) {
    sql.exec(
      `insert into hour_counts (hour, type, row_count, group_count, told) values (?, ?, ?, ?, 0)
       on conflict (hour, type) do update
         set row_count = excluded.row_count, group_count = excluded.group_count, told = 0`,
      hour,
      type,
      rows,
      groups,
    );
  }
  for (const { day, type, groups } of days) {
    sql.exec(
      `insert into day_counts (day, type, group_count) values (?, ?, ?)
       on conflict (day, type) do update set group_count = excluded.group_count`,
      day,
      type,
      groups,
    );
  }
  setHead(sql, { hours_to: sealed_to });
  sql.exec("delete from hour_counts where hour < ? and group_count = 0", sealed_to);
}

/** What nobody was told of yet, the oldest first; null where there is nothing. */
export function untold(sql: Sql): { readonly tenant_id: string; readonly report: CountReport } | null {
  const head = readHead(sql);
  if (head === null) return null;
  const hours = sql.exec<{ hour: number; type: EventType; rows: number; groups: number }>(
    `select hour, type, row_count as "rows", group_count as "groups" from hour_counts
     where told = 0 order by hour, type limit ?`,
    reportedMax,
  );
  const days = sql.exec<{ day: number; type: EventType; groups: number }>(
    `select day, type, group_count as "groups" from day_counts order by day, type limit ?`,
    reportedMax,
  );
  if (hours.length === 0 && days.length === 0) return null;
  const report = { indexed_seq: head.indexed, indexed_to: head.indexed_to, sealed_to: head.hours_to, hours, days };
  return { tenant_id: head.tenant_id, report };
}

/** What has changed since `report` was made is still to be told. Within a transaction. */
export function setTold(sql: Sql, { hours, days }: CountReport): void {
  for (const { hour, type, rows, groups } of hours) {
    sql.exec(
      "update hour_counts set told = 1 where hour = ? and type = ? and row_count = ? and group_count = ?",
      hour,
      type,
      rows,
      groups,
    );
  }
  sql.exec("delete from hour_counts where told = 1 and group_count > 0");
  for (const { day, type, groups } of days) {
    sql.exec("delete from day_counts where day = ? and type = ? and group_count = ?", day, type, groups);
  }
}
