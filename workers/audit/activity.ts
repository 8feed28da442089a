// Which logs may have work left: noted in Postgres (`audit_activity`) before events are appended, struck out by the cron
// once the log's object has nothing left to do. A second net under the objects' alarms, so its failures stop nothing.
// A note per tenant and minute, not per event; an idle tenant has no row.

import { sql } from "drizzle-orm";
import type { Clock, Log } from "../../shared/contract/ports.ts";
import type { AuditLogApi } from "../../shared/audit/service.ts";
import { errorName } from "../../shared/outbox/drain.ts";
import { inBatch, isUnavailable, type Database } from "../../shared/tenancy/database.ts";

const noteEveryMs = 60_000;
const notedTenantsMax = 10_000;
/** Alarms come within a second; whoever is noted for longer than this is looked after. */
const sweepAfterMs = 60_000;
const sweepTenantsMax = 500;
/** A counter that is older than this was compared by an earlier cron. */
const countedMs = 5 * 60_000;
/** No tenant's id: less than any. */
const beforeAll = "00000000-0000-0000-0000-000000000000";

export interface Activity {
  /** Resolves in any case: a failure is logged. */
  note(tenantIds: readonly string[]): Promise<void>;
  /** Up to `limit` noted tenants in order of their ids, strictly after `after` ("": from the first). Rejects in an outage. */
  list(after: string, limit: number): Promise<string[]>;
  /**
   * Calls `sweep` for each tenant whose note is old, with how many of its events the drain has counted; where it says that
   * nothing is left, the note goes. Tenants whose events were counted of late are noted, too, whether or not these came.
   */
  sweep(sweep: (tenantId: string, apiCounted: number | null) => Promise<boolean>): Promise<void>;
}

export function postgresActivity(database: Database, clock: Clock, log: Log): Activity {
  const noted = new Map<string, number>();
  // An outage passes. Anything else (a table, a grant, the statement itself) is for a person, or the net is not there.
  const failed = (what: string, error: unknown): void =>
    isUnavailable(error)
      ? log("warn", what, { error: errorName(error) })
      : log("error", what, { alarm: true, error: errorName(error) });
  return {
    async note(tenantIds) {
      const now = clock();
      const due = tenantIds.filter((tenantId) => (noted.get(tenantId) ?? 0) <= now - noteEveryMs);
      if (due.length === 0) return;
      if (noted.size > notedTenantsMax) noted.clear();
      for (const tenantId of due) noted.set(tenantId, now);
      try {
        await inBatch(database, [
          sql`insert into audit_activity (tenant_id, active_at)
              select tenant_id, ${new Date(now).toISOString()}::timestamptz from unnest(${sql.param(due)}::uuid[]) as given (tenant_id)
              on conflict (tenant_id) do update set active_at = excluded.active_at`,
        ]);
      } catch (error) {
        // Not tried again for these tenants within the minute: an outage is one line a minute, not one a batch.
        failed("active logs could not be noted", error);
      }
    },
    async list(after, limit) {
      const [rows] = await inBatch(database, [
        sql`select tenant_id from audit_activity where tenant_id > ${after === "" ? beforeAll : after}::uuid
            order by tenant_id limit ${limit}`,
      ]);
      return (rows ?? []).map((row) => String(row["tenant_id"]));
    },
    async sweep(sweep) {
      const before = new Date(clock() - sweepAfterMs).toISOString();
      const counted = new Date(clock() - countedMs).toISOString();
      try {
        const [, rows] = await inBatch(database, [
          sql`insert into audit_activity (tenant_id, active_at)
              select tenant_id, counted_at from outbox_counters where counted_at > ${counted}::timestamptz
              on conflict (tenant_id) do nothing`,
          sql`select tenant_id, source_seq::text as counted from audit_activity left join outbox_counters using (tenant_id)
              where active_at < ${before}::timestamptz order by active_at limit ${sweepTenantsMax}`,
        ]);
        const idle: string[] = [];
        for (const row of rows ?? []) {
          const tenantId = String(row["tenant_id"]);
          if (await sweep(tenantId, row["counted"] === null ? null : Number(row["counted"]))) idle.push(tenantId);
        }
        if (idle.length === 0) return;
        await inBatch(database, [
          sql`delete from audit_activity where tenant_id = any(${sql.param(idle)}::uuid[]) and active_at < ${before}::timestamptz`,
        ]);
      } catch (error) {
        failed("active logs could not be swept", error);
      }
    },
  };
}

export interface SweepParts {
  readonly activity: Pick<Activity, "sweep">;
  readonly auditLog: (tenantId: string) => Pick<AuditLogApi, "sweep">;
  readonly log: Log;
}

/** The cron's work: one log that cannot be swept keeps no other waiting. */
export const sweepLogs = ({ activity, auditLog, log }: SweepParts): Promise<void> =>
  activity.sweep(async (tenantId, apiCounted) => {
    try {
      return await auditLog(tenantId).sweep(apiCounted);
    } catch (error) {
      log("error", "a log could not be swept", { tenant_id: tenantId, error: errorName(error) });
      return false;
    }
  });
