// A tenant's meter: what a question costs and whether it may be asked, in one call before any SQL. The core of the
// PqlMeter object (durable-objects/pql-meter.ts), over its SQLite.
//
// Counters come from the tenant's AuditLog object as absolute values, and each is kept as the largest one told: events are
// only ever added, and what is sealed never changes. So reports may come twice, late and in any order, and an older one
// takes nothing back. The bucket of rows is in memory alone: an object that was away long enough to be forgotten has a full
// one anyway, and no question waits for a write.

import type { EventType } from "../contract/events.ts";
import type { Sql } from "../contract/ports.ts";
import { limits } from "./limits.ts";
import type { CountReport } from "../contract/event-counts.ts";
import type { QueryTime } from "./query-times.ts";
import { changesThatFit, priceOf, type Change, type Counts, type Priced } from "./price.ts";
import { dayMs, hourMs } from "./scan-parts.ts";

/** One day more than SINCE goes back: a range begins with its bucket. */
const keptMs = limits.sinceMaxMs + dayMs;
/** Hours and days that one report may name. */
export const reportRowsMax = 20_000;

/** Sums in memory, each of a number a type. */
const sumsMax = 500;

interface KnownSum {
  readonly from: number;
  readonly to: number;
  readonly sums: readonly number[];
}

const schema = `
  create table if not exists head (
    only integer primary key check (only = 1), indexed_seq integer not null, indexed_to integer not null,
    sealed_to integer
  );
  create table if not exists hours (
    type text not null, hour integer not null, events integer not null, groups integer not null,
    primary key (type, hour)
  ) without rowid;
  create table if not exists days (
    type text not null, day integer not null, events integer not null, hour_groups integer not null,
    day_groups integer not null, primary key (type, day)
  ) without rowid;
`;

/** Tests make it small. */
export interface MeterLimits {
  readonly price_rows_max: number;
  readonly rate_rows_per_second: number;
  readonly burst_rows_max: number;
  readonly page_rows: number;
}
export const meterLimits: MeterLimits = {
  price_rows_max: limits.priceRowsMax,
  rate_rows_per_second: limits.rateRowsPerSecond,
  burst_rows_max: limits.burstRowsMax,
  page_rows: limits.pageRows,
};

export interface MeterAsk extends Priced {
  /** An answer is at hand that was made while `indexed_seq` was this, and holds as long as it still is; null: none. */
  readonly held_seq: number | null;
  /** False: say what would be, and take nothing. */
  readonly spend: boolean;
}

export interface Price {
  readonly rows: number;
  /** The most that one question may cost. */
  readonly limit: number;
}

/** How far the log's rows go, as the meter was told. */
export interface MeterHead {
  readonly indexed_seq: number;
  /** Milliseconds since 1970; null: no event yet. */
  readonly indexed_to: number | null;
  readonly sealed_to: number | null;
}

export type Verdict =
  /** `unchanged`: the answer at hand still holds, and was paid as one that is not read. */
  | { readonly state: "admitted"; readonly unchanged: boolean }
  | { readonly state: "too_expensive"; readonly changes: readonly Change[] }
  | { readonly state: "rate_limited"; readonly retry_after_ms: number };

export type Admission = Verdict & { readonly price: Price; readonly head: MeterHead };

/** A tenant's meter, as who asks it sees it. */
export interface MeterPort {
  /** Throws Problem `meter_unavailable` where the meter does not answer. */
  admit(ask: MeterAsk): Promise<Admission>;
  /** Up to `queryTimesMax`; durable when it resolves. */
  observe(times: readonly QueryTime[]): Promise<void>;
  /** The histogram in Prometheus' text format. */
  timesText(): Promise<string>;
}

export class Meter {
  readonly #sql: Sql;
  readonly #limits: MeterLimits;
  #bucket: { readonly rows: number; readonly at: number } | null = null;
  #prunedAt = 0;
  /** As it was read last; null: it has been written since. */
  #knownHead: MeterHead | null = null;
  /** Sums that were read, by what they are of: most questions are of the same hours and days. Least recently used goes first. */
  readonly #sums = new Map<string, KnownSum>();

  constructor(sql: Sql, limits: MeterLimits = meterLimits) {
    if (limits.price_rows_max > limits.burst_rows_max)
      throw new RangeError("what is not refused must come to its turn");
    this.#sql = sql;
    this.#limits = limits;
    sql.exec(schema);
  }

  /** Durable when it returns. Throws RangeError for what is no report; nothing of it is kept then. */
  report(report: CountReport, now: number): void {
    checkReport(report);
    // What no question can reach is not kept: neither what is too old nor what is not yet.
    const isKept = (at: number): boolean => at >= now - keptMs && at <= now + dayMs;
    const hours = report.hours.filter(({ hour }) => isKept(hour));
    const days = report.days.filter(({ day }) => isKept(day));
    this.#knownHead = null;
    this.#sql.transaction(() => {
      this.#sql.exec(
        `insert into head values (1, ?, ?, ?) on conflict (only) do update set
           indexed_seq = max(indexed_seq, excluded.indexed_seq), indexed_to = max(indexed_to, excluded.indexed_to),
           sealed_to = case when sealed_to is null or excluded.sealed_to > sealed_to then excluded.sealed_to else sealed_to end`,
        report.indexed_seq,
        report.indexed_to,
        report.sealed_to,
      );
      for (const { type, hour, rows, groups } of hours) {
        this.#sql.exec(
          `insert into hours values (?, ?, ?, ?) on conflict (type, hour) do update set
             events = max(events, excluded.events), groups = max(groups, excluded.groups)`,
          type,
          hour,
          rows,
          groups,
        );
      }
      for (const { type, day, groups } of days) this.#keepDay(type, day, groups);
      const touched = new Map(hours.map(({ type, hour }) => [`${type} ${hour - (hour % dayMs)}`, { type, hour }]));
      for (const { type, hour } of touched.values()) this.#keepDay(type, hour - (hour % dayMs), 0);
      this.#prune(now);
    });
    for (const [key, { from, to }] of this.#sums) {
      const isTold =
        hours.some(({ hour }) => hour >= from && hour < to) || days.some(({ day }) => day >= from && day < to);
      if (isTold) this.#sums.delete(key);
    }
  }

  /** Prices the question and takes its rows from the bucket; of two at once the second sees what the first has left. */
  admit(ask: MeterAsk, now: number): Admission {
    const { page_rows: pageRows, price_rows_max: limit, rate_rows_per_second: rate } = this.#limits;
    const head = this.#head();
    const counts = this.#counts(head);
    const rows = priceOf(ask, counts, pageRows);
    const price: Price = { rows, limit };
    const saved = this.#refill(now);
    const take = (wanted: number): void => {
      if (ask.spend) this.#bucket = { rows: saved - Math.min(wanted, saved), at: now };
    };
    const unchanged = ask.held_seq !== null && ask.held_seq === head.indexed_seq;
    if (rows > limit && !unchanged) {
      take(limits.unreadRows);
      return { state: "too_expensive", changes: changesThatFit(ask.plan, counts, pageRows, limit), price, head };
    }
    const cost = unchanged ? limits.unreadRows : Math.max(rows, Math.min(limits.askedRowsMin, limit));
    if (cost > saved) {
      take(limits.unreadRows);
      return { state: "rate_limited", retry_after_ms: Math.ceil(((cost - saved) / rate) * 1_000), price, head };
    }
    take(cost);
    return { state: "admitted", unchanged, price, head };
  }

  #head(): MeterHead {
    if (this.#knownHead !== null) return this.#knownHead;
    const [head] = this.#sql.exec<{ indexed_seq: number; indexed_to: number; sealed_to: number | null }>(
      "select indexed_seq, indexed_to, sealed_to from head",
    );
    this.#knownHead = head ?? { indexed_seq: 0, indexed_to: null, sealed_to: null };
    return this.#knownHead;
  }

  /** A clock that goes back adds nothing, and does not stop what comes after. */
  #refill(now: number): number {
    const { burst_rows_max: most, rate_rows_per_second: rate } = this.#limits;
    if (this.#bucket === null) return most;
    return Math.min(most, this.#bucket.rows + (Math.max(0, now - this.#bucket.at) * rate) / 1_000);
  }

  /** A day's sums follow from its hours: a range of days is then read from as many rows as it has days. */
  #keepDay(type: EventType, day: number, groups: number): void {
    this.#sql.exec(
      `insert into days
       select ?, ?, coalesce(sum(events), 0), coalesce(sum(${hourGroups}), 0), ? from hours
       where type = ? and hour >= ? and hour < ?
       on conflict (type, day) do update set
         events = excluded.events, hour_groups = excluded.hour_groups, day_groups = max(day_groups, excluded.day_groups)`,
      type,
      day,
      groups,
      type,
      day,
      day + dayMs,
    );
  }

  #counts(head: MeterHead): Counts {
    return {
      indexed_to: head.indexed_to,
      sealed_to: head.sealed_to,
      events: (types, from, to) => this.#sum(types, from, to, "events", "events"),
      hourGroups: (types, from, to) => this.#sum(types, from, to, hourGroups, "hour_groups"),
      // A day whose rows were not told of is priced as its hours.
      dayGroups: (types, from, to) =>
        this.#sum(types, from, to, hourGroups, "case when day_groups = 0 then hour_groups else day_groups end"),
    };
  }

  #sum(types: readonly EventType[], from: number, to: number, ofHour: string, ofDay: string): readonly number[] {
    const key = `${ofDay} ${from} ${to} ${types.join(" ")}`;
    const known = this.#sums.get(key);
    const sums = known?.sums ?? this.#readSum(types, from, to, ofHour, ofDay);
    this.#sums.delete(key);
    this.#sums.set(key, { from, to, sums });
    for (const oldest of this.#sums.keys()) {
      if (this.#sums.size <= sumsMax) break;
      this.#sums.delete(oldest);
    }
    return sums;
  }

  #readSum(types: readonly EventType[], from: number, to: number, ofHour: string, ofDay: string): readonly number[] {
    const firstDay = Math.min(to, Math.ceil(from / dayMs) * dayMs);
    const lastDay = Math.max(firstDay, Math.floor(to / dayMs) * dayMs);
    const list = JSON.stringify(types);
    const part = (value: string, table: string, at: string): string =>
      `select type, ${value} as n from ${table}
       where type in (select value from json_each(?)) and ${at} >= ? and ${at} < ?`;
    const rows = this.#sql.exec<{ type: string; n: number }>(
      `select type, sum(n) as n from (${part(ofHour, "hours", "hour")} union all ${part(ofDay, "days", "day")}
         union all ${part(ofHour, "hours", "hour")}) group by type`,
      ...[from, firstDay, lastDay].flatMap((at, index) => [list, at, [firstDay, lastDay, to][index]!]),
    );
    const byType = new Map(rows.map(({ type, n }) => [type, n]));
    return types.map((type) => byType.get(type) ?? 0);
  }

  /** Once a day at most: it looks at every row. */
  #prune(now: number): void {
    if (Math.abs(now - this.#prunedAt) < dayMs) return;
    this.#sql.exec("delete from hours where hour < ?", now - keptMs);
    this.#sql.exec("delete from days where day < ?", now - keptMs);
    this.#prunedAt = now;
  }
}

/** Rows of audit_hours of an hour; where they were not told of, its events: hardly fewer. */
const hourGroups = "case when groups = 0 then events else groups end";

function checkReport({
  indexed_seq: indexedSeq,
  indexed_to: indexedTo,
  sealed_to: sealedTo,
  hours,
  days,
}: CountReport) {
  const isCount = (value: number): boolean => Number.isSafeInteger(value) && value >= 0;
  const isWhole = (at: number, step: number): boolean => isCount(at) && at % step === 0;
  if (hours.length + days.length > reportRowsMax) throw new RangeError(`a report has at most ${reportRowsMax} rows`);
  const fits =
    isCount(indexedSeq) &&
    isCount(indexedTo) &&
    (sealedTo === null || isWhole(sealedTo, hourMs)) &&
    hours.every(({ hour, rows, groups }) => isWhole(hour, hourMs) && isCount(rows) && isCount(groups)) &&
    days.every(({ day, groups }) => isWhole(day, dayMs) && isCount(groups));
  if (!fits) throw new RangeError("a report has whole hours and days, and counts that are not negative");
}
