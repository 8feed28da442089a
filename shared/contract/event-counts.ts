// How many of a tenant's events stand in Postgres, by hour and type, and how many rows of counts they have there: what the
// tenant's log tells the tenant's meter, over the API's MeterService. Times are milliseconds since 1970, hours and days UTC.

import type { EventType } from "./events.ts";

export interface HourCount {
  readonly hour: number;
  readonly type: EventType;
  /** Events. */
  readonly rows: number;
  /** Rows of audit_hours; 0 while the hour is open. */
  readonly groups: number;
}

/** Of a sealed day. */
export interface DayCount {
  readonly day: number;
  readonly type: EventType;
  /** Rows of audit_days. */
  readonly groups: number;
}

/** Absolute values: told twice, or late, they do no harm. What is not in a report has not changed since the one before. */
export interface CountReport {
  /** Every event with a `seq` below it stands in Postgres. */
  readonly indexed_seq: number;
  /** When the newest of them was logged. */
  readonly indexed_to: number;
  /** Every hour before it has its rows in audit_hours, every whole day before it in audit_days; null: none yet. */
  readonly sealed_to: number | null;
  readonly hours: readonly HourCount[];
  readonly days: readonly DayCount[];
}

/** What the API worker offers the audit worker: the tenant's PqlMeter is told. */
export interface MeterReports {
  report(tenantId: string, report: CountReport): Promise<void>;
}
