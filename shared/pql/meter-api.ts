// What the PqlMeter object of a tenant is told and asked. The audit worker's AuditLog tells it, the API asks it; each through
// a binding of its own. Shapes only.

import type { EventType } from "../contract/events.ts";

/** Rows that stand in Postgres, of one UTC hour and type. */
export interface HourCount {
  /** Milliseconds since 1970. */
  readonly hour: number;
  readonly type: EventType;
  readonly rows: number;
  /** Rows of audit_hours; 0 while the hour is open. */
  readonly groups: number;
}

/** Rows of audit_days, of one sealed UTC day and type. */
export interface DayCount {
  readonly day: number;
  readonly type: EventType;
  readonly groups: number;
}

/** Absolute values: told twice, or told late, they do no harm. */
export interface MeterReport {
  /** Every event with a `seq` below it stands in Postgres. */
  readonly indexed_seq: number;
  /** When the newest of them was logged; milliseconds since 1970. */
  readonly indexed_to: number;
  /** Every hour before it has its rows in audit_hours, every whole day before it in audit_days; null: none yet. */
  readonly sealed_to: number | null;
  readonly hours: readonly HourCount[];
  readonly days: readonly DayCount[];
}
