// What Postgres knows of edge policy: whose keys are fetchers', and which tenants have a repository. Called by compose.ts for the
// publisher and the cron, and by PUT /api/policies/root.

import { sql } from "drizzle-orm";
import { asTenant, inBatch, type Database } from "../tenancy/database.ts";
import type { FetcherKey } from "./publisher-mirror.ts";

/** Of one tenant: so many fetchers are mirrored, the newest first. */
const fetcherKeysMax = 10_000;
/** Publishers that one run of the cron wakes: those that were not for the longest time. */
const sweptMax = 500;

/** Keys of the tenant's fetchers that are neither revoked nor expired at `now`, and whose principal is not disabled. */
export async function fetcherKeysOf(database: Database, tenantId: string, now: number): Promise<FetcherKey[]> {
  const [rows] = await asTenant(database, tenantId, [
    sql`select k.id, k.secret_sha256,
          to_char(k.expires_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as expires_at
        from api_keys k join principals p on p.tenant_id = k.tenant_id and p.id = k.principal_id
        where k.tenant_id = ${tenantId} and p.role = 'fetcher' and p.disabled_at is null and k.revoked_at is null
          and (k.expires_at is null or k.expires_at > ${new Date(now).toISOString()}::timestamptz)
        order by k.created_at desc, k.id desc limit ${fetcherKeysMax}`,
  ]);
  return (rows ?? []).map((row) => ({
    key_sha256: String(row["secret_sha256"]),
    fetcher_id: String(row["id"]),
    expires_at: row["expires_at"] as string | null,
  }));
}

/** Notes that the tenant has a repository; again, it changes nothing. */
export async function noteRepository(database: Database, tenantId: string, now: number): Promise<void> {
  await asTenant(database, tenantId, [
    sql`insert into policy_repositories (tenant_id, created_at)
        values (${tenantId}, ${new Date(now).toISOString()}::timestamptz) on conflict do nothing`,
  ]);
}

/** As maestro_drain: the tenants whose publishers were not looked after for the longest time, noted as looked after. */
export async function repositoriesToSweep(database: Database): Promise<string[]> {
  const [rows] = await inBatch(database, [
    sql`update policy_repositories set swept_at = now() where tenant_id in (
          select tenant_id from policy_repositories order by swept_at nulls first, tenant_id limit ${sweptMax}
        ) returning tenant_id`,
  ]);
  return (rows ?? []).map((row) => String(row["tenant_id"]));
}
