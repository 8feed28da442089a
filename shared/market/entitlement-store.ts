// The SQL of entitlements: the plan's table, and its companions for version and history.

import { sql } from "drizzle-orm";
import type { EntitlementSet } from "../contract/http-market.ts";
import { channel } from "../contract/names.ts";
import type { Random } from "../contract/ports.ts";
import { newEvent, outboxInsert } from "../outbox/outbox.ts";
import { asTenant, type Database } from "../tenancy/database.ts";
import { forgetExpired, rememberAnswer } from "../tenancy/idempotency.ts";
import type { EntitlementPut } from "./entitlements.ts";

export interface EntitlementWrite extends EntitlementPut {
  readonly from_version: number;
  readonly answer: EntitlementSet;
  readonly now: number;
  /** Postgres' clock must be before this, or nothing is written. */
  readonly admit_until_ms: number;
  readonly random: Random;
}

export interface EntitlementStore {
  /** What Postgres holds now; version 0 where nothing was ever put. */
  read(): Promise<EntitlementSet>;
  /** One transaction: version, rows, history, answer, events. False: another version stood there, nothing changed. */
  write(write: EntitlementWrite): Promise<boolean>;
}

export function entitlementStore(database: Database, tenantId: string, shards: number): EntitlementStore {
  return {
    async read() {
      const [versions, rows] = await asTenant(database, tenantId, [
        sql`select version::int as version from entitlement_versions where tenant_id = ${tenantId}`,
        sql`select package, channel, allowed from entitlements where tenant_id = ${tenantId}`,
      ]);
      return {
        version: Number(versions?.[0]?.["version"] ?? 0),
        entitlements: (rows ?? []).map((row) => ({
          package: String(row["package"]),
          channel: channel.parse(row["channel"]),
          allowed: row["allowed"] === true,
        })),
      };
    },

    async write({ upsert, principal_id, claim, from_version, answer, now, admit_until_ms, random }) {
      const at = new Date(now).toISOString();
      const context = { tenant_id: tenantId, principal: principal_id, source: "api", now, random } as const;
      const events = upsert.entitlements.map((row) =>
        newEvent(context, "mc.entitlement.changed", {
          ...row,
          entitlement_version: answer.version,
          outcome: row.allowed ? "granted" : "denied",
        }),
      );
      const admitted = sql`clock_timestamp() < ${new Date(admit_until_ms).toISOString()}::timestamptz`;
      const bumped =
        from_version === 0
          ? sql`insert into entitlement_versions select ${tenantId}::uuid, 1, ${at}::timestamptz where ${admitted}
                on conflict do nothing returning version`
          : sql`update entitlement_versions set version = version + 1, changed_at = ${at}
                where tenant_id = ${tenantId} and version = ${from_version} and ${admitted} returning version`;
      const remembered =
        claim === null
          ? sql``
          : sql`, remembered as (${rememberAnswer(claim, now, { status: 200, response: answer }, sql`from bumped`)})`;
      const results = await asTenant(database, tenantId, [
        ...forgetExpired(claim, now),
        sql`with bumped as (${bumped}), wanted as (
              select w.* from bumped, jsonb_to_recordset(${JSON.stringify(upsert.entitlements)}::jsonb)
                as w(package text, channel text, allowed boolean)
            ), kept as (
              insert into entitlements (tenant_id, package, channel, allowed)
              select ${tenantId}::uuid, package, channel, allowed from wanted
              on conflict (tenant_id, package) do update set channel = excluded.channel, allowed = excluded.allowed
            ), told as (
              insert into entitlement_history
                (tenant_id, version, package, channel, allowed, principal_id, reason, changed_at)
              select ${tenantId}::uuid, bumped.version, package, channel, allowed, ${principal_id}, ${upsert.reason},
                ${at}::timestamptz from wanted, bumped
            )${remembered}
            ${outboxInsert(events, shards, sql`where exists (select from bumped)`)}`,
      ]);
      return (results.at(-1) ?? []).length > 0;
    },
  };
}
