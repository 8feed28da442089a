// The SQL of entitlements: the plan's table, its companions for version, constraints and history, flags, and the rows of
// reviewed changes as far as a step of theirs writes entitlements. Called by the tenant's queue.

import { sql, type SQL } from "drizzle-orm";
import type { AuditEvent } from "../contract/events.ts";
import {
  entitlement,
  type Entitlement,
  type EntitlementChange,
  type EntitlementSet,
} from "../contract/http-entitlements.ts";
import { flagNames, flags as flagMeanings, type FlagChange, type FlagList } from "../contract/http-flags.ts";
import type { Random } from "../contract/ports.ts";
import { newEvent, outboxInsert } from "../outbox/outbox.ts";
import { asTenant, type Database, type Row } from "../tenancy/database.ts";
import { forgetExpired, rememberAnswer, type IdempotencyClaim } from "../tenancy/idempotency.ts";
import { changeOf, changeColumns } from "./change-store.ts";

export interface EntitlementWrite {
  readonly from_version: number;
  readonly upserts?: readonly Entitlement[];
  /** Packages whose rows go. */
  readonly removals?: readonly string[];
  readonly flag?: FlagChange;
  /** The reviewed change whose step this is. */
  readonly change?: { readonly before: EntitlementChange; readonly after: EntitlementChange };
  readonly reason?: string;
  readonly principal_id: string;
  readonly claim: IdempotencyClaim | null;
  readonly answer: { readonly status: number; readonly response: unknown };
  readonly now: number;
  /** Postgres' clock must be before this, or nothing is written. */
  readonly admit_until_ms: number;
  readonly random: Random;
}

export interface EntitlementStore {
  /** What Postgres holds now; version 0 where nothing was ever put. */
  read(): Promise<{ readonly set: EntitlementSet; readonly flags: FlagList }>;
  readChange(id: string): Promise<EntitlementChange | null>;
  /** One transaction: version, rows, flags, history, answer, events. False: another version stood there, nothing changed. */
  write(write: EntitlementWrite): Promise<boolean>;
}

export const entitlementColumns = sql`e.package, e.channel, e.allowed, c.version_range, c.run_windows, c.runs_per_day_max`;
export const constraintsJoin = sql`left join entitlement_constraints c on c.tenant_id = e.tenant_id and c.package = e.package`;

export function entitlementStore(database: Database, tenantId: string, shards: number): EntitlementStore {
  return {
    async read() {
      const [versions, rows, flagRows] = await asTenant(database, tenantId, [
        sql`select version::int as version from entitlement_versions where tenant_id = ${tenantId}`,
        sql`select ${entitlementColumns} from entitlements e ${constraintsJoin} where e.tenant_id = ${tenantId}`,
        sql`select flag, enabled, principal_id, changed_at from tenant_flags where tenant_id = ${tenantId}`,
      ]);
      return {
        set: {
          version: Number(versions?.[0]?.["version"] ?? 0),
          entitlements: (rows ?? []).map((row) => entitlement.parse(row)),
        },
        flags: flagListOf(flagRows ?? []),
      };
    },

    async readChange(id) {
      const [rows] = await asTenant(database, tenantId, [
        sql`select ${changeColumns} from entitlement_changes where tenant_id = ${tenantId} and id = ${id}`,
      ]);
      return rows?.[0] === undefined ? null : changeOf(rows[0]);
    },

    async write(write) {
      const { upserts = [], removals = [], claim, now } = write;
      const at = new Date(now).toISOString();
      const version = write.from_version + 1;
      const changeId = write.change?.after.id ?? null;
      const remembered =
        claim === null ? sql`` : sql`, remembered as (${rememberAnswer(claim, now, write.answer, sql`from bumped`)})`;
      const results = await asTenant(database, tenantId, [
        ...forgetExpired(claim, now),
        sql`with bumped as (${versionBump(tenantId, write, at)}), wanted as (
              select w.* from bumped, jsonb_to_recordset(${JSON.stringify(upserts)}::jsonb) as w(
                package text, channel text, allowed boolean, version_range text, run_windows jsonb, runs_per_day_max int)
            ), kept as (
              insert into entitlements (tenant_id, package, channel, allowed)
              select ${tenantId}::uuid, package, channel, allowed from wanted
              on conflict (tenant_id, package) do update set channel = excluded.channel, allowed = excluded.allowed
            ), constrained as (
              insert into entitlement_constraints (tenant_id, package, version_range, run_windows, runs_per_day_max)
              select ${tenantId}::uuid, package, version_range, run_windows, runs_per_day_max from wanted
              on conflict (tenant_id, package) do update set version_range = excluded.version_range,
                run_windows = excluded.run_windows, runs_per_day_max = excluded.runs_per_day_max
            ), gone as (
              select e.tenant_id, ${entitlementColumns} from entitlements e ${constraintsJoin}, bumped
              where e.tenant_id = ${tenantId} and e.package in (select jsonb_array_elements_text(${JSON.stringify(removals)}::jsonb))
            ), removed as (
              delete from entitlements e using gone where e.tenant_id = gone.tenant_id and e.package = gone.package
            ), told as (
              insert into entitlement_history (tenant_id, version, package, channel, allowed, version_range, run_windows,
                runs_per_day_max, removed, principal_id, reason, changed_at, change_id)
              select ${tenantId}::uuid, ${version}::bigint, package, channel, allowed, version_range, run_windows,
                runs_per_day_max, removed, ${write.principal_id}, ${write.reason ?? ""}, ${at}::timestamptz, ${changeId}
              from (
                select package, channel, allowed, version_range, run_windows, runs_per_day_max, false as removed from wanted
                union all
                select package, channel, allowed, version_range, run_windows, runs_per_day_max, true from gone
              ) rows
            )${flagWrite(tenantId, write, at)}${changeStep(tenantId, write)}${remembered}
            ${outboxInsert(eventsOf(tenantId, write, version), shards, sql`where exists (select from bumped)`)}`,
      ]);
      return (results.at(-1) ?? []).length > 0;
    },
  };
}

/** The compare-and-set that everything else of a write hangs on. A change must also stand where it stood when it was read. */
function versionBump(tenantId: string, write: EntitlementWrite, at: string): SQL {
  const admitted = sql`clock_timestamp() < ${new Date(write.admit_until_ms).toISOString()}::timestamptz`;
  const stands =
    write.change === undefined
      ? sql``
      : sql`and exists (
          select from entitlement_changes
          where tenant_id = ${tenantId} and id = ${write.change.before.id} and state = ${write.change.before.state}
        )`;
  return write.from_version === 0
    ? sql`insert into entitlement_versions select ${tenantId}::uuid, 1, ${at}::timestamptz where ${admitted} ${stands}
          on conflict do nothing returning version`
    : sql`update entitlement_versions set version = version + 1, changed_at = ${at}
          where tenant_id = ${tenantId} and version = ${write.from_version} and ${admitted} ${stands} returning version`;
}

const flagWrite = (tenantId: string, { flag, principal_id: by }: EntitlementWrite, at: string): SQL =>
  flag === undefined
    ? sql``
    : sql`, flagged as (
        insert into tenant_flags (tenant_id, flag, enabled, principal_id, changed_at)
        select ${tenantId}::uuid, ${flag.flag}, ${flag.enabled}::boolean, ${by}, ${at}::timestamptz from bumped
        on conflict (tenant_id, flag) do update set enabled = excluded.enabled, principal_id = excluded.principal_id,
          changed_at = excluded.changed_at
      )`;

function changeStep(tenantId: string, { change }: EntitlementWrite): SQL {
  if (change === undefined) return sql``;
  const { after } = change;
  return sql`, stepped as (
    update entitlement_changes set state = ${after.state}, before = ${JSON.stringify(after.before)}::jsonb,
      applied_by = ${after.applied_by}, applied_at = ${after.applied_at}, applied_version = ${after.applied_version},
      reverted_by = ${after.reverted_by}, reverted_at = ${after.reverted_at}, reverted_version = ${after.reverted_version}
    where tenant_id = ${tenantId} and id = ${after.id} and exists (select from bumped)
  )`;
}

function eventsOf(tenantId: string, write: EntitlementWrite, version: number): AuditEvent[] {
  const { principal_id: principal, now, random } = write;
  const context = { tenant_id: tenantId, principal, source: "api", now, random } as const;
  const events: AuditEvent[] = (write.upserts ?? []).map((row) =>
    newEvent(context, "mc.entitlement.changed", {
      package: row.package,
      channel: row.channel,
      allowed: row.allowed,
      entitlement_version: version,
      outcome: row.allowed ? "granted" : "denied",
      ...(row.version_range === null ? {} : { version_range: row.version_range }),
      ...(row.run_windows === null ? {} : { run_window_count: row.run_windows.length }),
      ...(row.runs_per_day_max === null ? {} : { runs_per_day_max: row.runs_per_day_max }),
    }),
  );
  for (const name of write.removals ?? []) {
    const attributes = { package: name, entitlement_version: version, outcome: "removed" } as const;
    events.push(newEvent(context, "mc.entitlement.removed", attributes));
  }
  if (write.flag !== undefined) {
    const outcome = write.flag.enabled ? "on" : "off";
    events.push(newEvent(context, "mc.flag.changed", { flag: write.flag.flag, outcome }));
  }
  if (write.change !== undefined) {
    const { id, state } = write.change.after;
    if (state !== "applied" && state !== "reverted") throw new TypeError(`a step does not make a change ${state}`);
    const attributes = { change_id: id, entitlement_version: version, outcome: state };
    events.push(newEvent(context, "mc.entitlement.reviewed", attributes));
  }
  return events;
}

function flagListOf(rows: readonly Row[]): FlagList {
  const known = new Map(rows.map((row) => [String(row["flag"]), row]));
  return {
    flags: flagNames.map((flag) => {
      const row = known.get(flag);
      return {
        flag,
        enabled: row === undefined || row["enabled"] === true,
        off_means: flagMeanings[flag],
        changed_at: row === undefined ? null : new Date(String(row["changed_at"])).toISOString(),
        changed_by: row === undefined ? null : String(row["principal_id"]),
      };
    }),
  };
}
