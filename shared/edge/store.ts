// What Postgres knows of edge policy: which keys and SPIFFE IDs are fetchers', the bundles that their SVIDs are verified with, and
// which tenants have a repository. Called by compose.ts for the publisher and the cron, and by PUT /api/policies/root.

import { sql } from "drizzle-orm";
import { asTenant, inBatch, type Database } from "../tenancy/database.ts";
import type { TenantFetchers, TrustDocument } from "./publisher-mirror.ts";

/** Of one tenant, of keys and of SPIFFE IDs: so many fetchers are mirrored, the newest first. */
const fetchersMax = 10_000;
/** Of one tenant: the bundles of so many trust domains are mirrored, by their names. */
const trustDomainsMax = 64;
/** Of one trust domain: so many tenants' publishers are woken at once; the others look within the minute. */
const trustingMax = 500;
/** Publishers that one run of the cron wakes: those that were not for the longest time. */
const sweptMax = 500;

/** Of a row of trust_domains as `d`: a domain that is stated anew has a row of its own. */
const statedMs = sql`(extract(epoch from d.created_at) * 1000)::bigint`;

/**
 * The tenant's fetchers whose principal is not disabled, as of one transaction; of trust domains that the tenant may use. With the flag `spiffe_everywhere` (on where no
 * row says otherwise) keys are none as soon as one SPIFFE ID is registered for a fetcher, disabled or not.
 */
export async function fetchersOf(database: Database, tenantId: string, now: number): Promise<TenantFetchers> {
  const isFetcher = sql`p.tenant_id = ${tenantId} and p.role = 'fetcher'`;
  const workloads = sql`workloads w join principals p on p.tenant_id = w.tenant_id and p.id = w.principal_id`;
  const [keys, ids, bundles] = await asTenant(database, tenantId, [
    sql`select k.id, k.secret_sha256,
          to_char(k.expires_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as expires_at
        from api_keys k join principals p on p.tenant_id = k.tenant_id and p.id = k.principal_id
        where ${isFetcher} and p.disabled_at is null and k.revoked_at is null
          and (k.expires_at is null or k.expires_at > ${new Date(now).toISOString()}::timestamptz)
          and not (
            coalesce((select enabled from tenant_flags where tenant_id = ${tenantId} and flag = 'spiffe_everywhere'), true)
            and exists (select from ${workloads} where ${isFetcher})
          )
        order by k.created_at desc, k.id desc limit ${fetchersMax}`,
    sql`select w.spiffe_id, w.trust_domain, w.principal_id from ${workloads} join trust_domains d on d.name = w.trust_domain
        where ${isFetcher} and p.disabled_at is null
        order by w.created_at desc, w.spiffe_id desc limit ${fetchersMax}`,
    sql`select d.name, d.bundle_sha256, ${statedMs} as stated_ms from trust_domains d
        where d.bundle is not null and d.name in (
          select w.trust_domain from ${workloads} where ${isFetcher} and p.disabled_at is null
        )
        order by d.name limit ${trustDomainsMax}`,
  ]);
  return {
    keys: (keys ?? []).map((row) => ({
      key_sha256: String(row["secret_sha256"]),
      fetcher_id: String(row["id"]),
      expires_at: row["expires_at"] as string | null,
    })),
    workloads: (ids ?? []).map((row) => ({
      spiffe_id: String(row["spiffe_id"]),
      trust_domain: String(row["trust_domain"]),
      fetcher_id: String(row["principal_id"]),
    })),
    bundles: (bundles ?? []).map((row) => ({
      trust_domain: String(row["name"]),
      sha256: String(row["bundle_sha256"]),
      stated_ms: Number(row["stated_ms"]),
    })),
  };
}

/** The bundle in force of a trust domain that the tenant may use; null where there is none. */
export async function trustDocumentOf(
  database: Database,
  tenantId: string,
  trustDomain: string,
): Promise<TrustDocument | null> {
  const [rows] = await asTenant(database, tenantId, [
    sql`select d.bundle, d.distrusts, ${statedMs} as stated_ms from trust_domains d where name = ${trustDomain} and bundle is not null`,
  ]);
  if (rows?.[0] === undefined) return null;
  const document = String(rows[0]["bundle"]);
  // It was read strictly before it came into the row.
  const { spiffe_sequence: sequence } = JSON.parse(document) as { readonly spiffe_sequence?: unknown };
  return {
    document,
    sequence: typeof sequence === "number" ? sequence : null,
    distrusts: Number(rows[0]["distrusts"]),
    stated_ms: Number(rows[0]["stated_ms"]),
  };
}

/** As maestro_auth: the tenants that have a workload in that trust domain, and so mirror its bundle. */
export async function tenantsTrusting(database: Database, trustDomain: string): Promise<string[]> {
  const [rows] = await inBatch(database, [
    sql`select distinct tenant_id from workloads where trust_domain = ${trustDomain} limit ${trustingMax}`,
  ]);
  return (rows ?? []).map((row) => String(row["tenant_id"]));
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
