// The SQL of reviewed changes as far as they touch no entitlement: proposed, approved, rejected, listed. Applying and
// reverting go through the tenant's queue (entitlement-store.ts).

import { sql } from "drizzle-orm";
import type { AuditEvent } from "../contract/events.ts";
import { entitlementChange, entitlementHistoryEntry } from "../contract/http-entitlements.ts";
import type { EntitlementChange, EntitlementHistoryEntry } from "../contract/http-entitlements.ts";
import { outboxInsert } from "../outbox/outbox.ts";
import { asTenant, type Database, type Row } from "../tenancy/database.ts";
import { forgetExpired, rememberAnswer, type IdempotencyClaim } from "../tenancy/idempotency.ts";

export const changeColumns = sql`id, state, entitlements, before, reason, proposed_by, proposed_at, decided_by, decided_at,
  applied_by, applied_at, applied_version::int as applied_version, reverted_by, reverted_at,
  reverted_version::int as reverted_version`;

const iso = (value: unknown): unknown =>
  typeof value === "string" || value instanceof Date ? new Date(value).toISOString() : null;

export const changeOf = (row: Row): EntitlementChange =>
  entitlementChange.parse({
    ...row,
    proposed_at: iso(row["proposed_at"]),
    decided_at: iso(row["decided_at"]),
    applied_at: iso(row["applied_at"]),
    reverted_at: iso(row["reverted_at"]),
  });

export async function readChange(database: Database, tenantId: string, id: string): Promise<EntitlementChange | null> {
  const [rows] = await asTenant(database, tenantId, [
    sql`select ${changeColumns} from entitlement_changes where tenant_id = ${tenantId} and id = ${id}`,
  ]);
  return rows?.[0] === undefined ? null : changeOf(rows[0]);
}

/** Newest first, strictly before `before`. */
export async function listChanges(
  database: Database,
  tenantId: string,
  limit: number,
  before: { readonly proposed_at: string; readonly id: string } | null,
): Promise<EntitlementChange[]> {
  const earlier = before === null ? sql`` : sql`and (proposed_at, id) < (${before.proposed_at}, ${before.id})`;
  const [rows] = await asTenant(database, tenantId, [
    sql`select ${changeColumns} from entitlement_changes where tenant_id = ${tenantId} ${earlier}
        order by proposed_at desc, id desc limit ${limit}`,
  ]);
  return (rows ?? []).map(changeOf);
}

interface Told {
  readonly change: EntitlementChange;
  readonly event: AuditEvent;
  readonly claim: IdempotencyClaim;
  readonly now: number;
}

/** Change, event and answer in one transaction. */
export async function insertChange(
  database: Database,
  tenantId: string,
  shards: number,
  { change, event, claim, now }: Told,
): Promise<void> {
  await asTenant(database, tenantId, [
    ...forgetExpired(claim, now),
    sql`insert into entitlement_changes (tenant_id, id, state, entitlements, reason, proposed_by, proposed_at)
        values (${tenantId}, ${change.id}, ${change.state}, ${JSON.stringify(change.entitlements)}::jsonb, ${change.reason},
          ${change.proposed_by}, ${change.proposed_at})`,
    outboxInsert([event], shards),
    rememberAnswer(claim, now, { status: 201, response: change }),
  ]);
}

/** proposed → approved or rejected, with event and answer; false where it is not proposed any more: nothing changed. */
export async function decideChange(
  database: Database,
  tenantId: string,
  shards: number,
  { change, event, claim, now }: Told,
): Promise<boolean> {
  const results = await asTenant(database, tenantId, [
    ...forgetExpired(claim, now),
    sql`with changed as (
          update entitlement_changes set state = ${change.state}, decided_by = ${change.decided_by}, decided_at = ${change.decided_at}
          where tenant_id = ${tenantId} and id = ${change.id} and state = 'proposed' returning id
        ), remembered as (${rememberAnswer(claim, now, { status: 200, response: change }, sql`from changed`)})
        ${outboxInsert([event], shards, sql`where exists (select from changed)`)}`,
  ]);
  return (results.at(-1) ?? []).length > 0;
}

/** Rows of the history, newest first, strictly before `before`. */
export async function listHistory(
  database: Database,
  tenantId: string,
  name: string | null,
  limit: number,
  before: { readonly version: number; readonly package: string } | null,
): Promise<EntitlementHistoryEntry[]> {
  const [rows] = await asTenant(database, tenantId, [
    sql`select version::int as version, package, channel, allowed, version_range, run_windows, runs_per_day_max, removed,
          principal_id, reason, change_id, changed_at
        from entitlement_history where tenant_id = ${tenantId} and ${name === null ? sql`true` : sql`package = ${name}`}
          and ${before === null ? sql`true` : sql`(version, package) < (${before.version}, ${before.package})`}
        order by version desc, package desc limit ${limit}`,
  ]);
  return (rows ?? []).map((row) => {
    const { package: name, channel, allowed, version_range, run_windows, runs_per_day_max, ...entry } = row;
    return entitlementHistoryEntry.parse({
      ...entry,
      changed_at: iso(entry["changed_at"]),
      entitlement: { package: name, channel, allowed, version_range, run_windows, runs_per_day_max },
    });
  });
}
