// A tenant's workloads in Postgres (as maestro_app): SPIFFE IDs, and the service principals that they are. Called by the routes of
// /api/identity.

import { sql } from "drizzle-orm";
import type { Workload } from "../contract/http-identity.ts";
import type { Role } from "../contract/names.ts";
import { asTenant, type Database } from "../tenancy/database.ts";
import { forgetExpired, rememberAnswer } from "../tenancy/idempotency.ts";
import { servicePrincipalInsert } from "../tenancy/store.ts";
import { time, type Change } from "./store.ts";

/** At most so many SPIFFE IDs are listed, newest first. */
export const workloadsListed = 1_000;

export async function listWorkloads(database: Database, tenantId: string): Promise<Workload[]> {
  const [rows] = await asTenant(database, tenantId, [
    sql`select w.principal_id as id, w.spiffe_id, w.trust_domain, p.role, ${time(sql`w.created_at`)} as created_at, w.created_by
        from workloads w join principals p on p.tenant_id = w.tenant_id and p.id = w.principal_id
        where w.tenant_id = ${tenantId}::uuid
        order by w.created_at desc, w.spiffe_id limit ${workloadsListed}`,
  ]);
  return (rows ?? []).map((row) => ({
    id: String(row["id"]),
    spiffe_id: String(row["spiffe_id"]),
    trust_domain: String(row["trust_domain"]),
    role: row["role"] as Role,
    created_at: String(row["created_at"]),
    created_by: String(row["created_by"]),
  }));
}

/** Of a tenant. Of two that are registered at the same time both may still find room. */
export const workloadsMax = 10_000;

/**
 * Service principal (of the same origin as its creator), SPIFFE ID, event and remembered answer (201), together or not at all. `missing`:
 * the domain is not there, or not shared as `shared` says, any more. Throws what the driver throws where the ID is registered (SQLSTATE
 * 23505), or the domain is removed at the same time (23503).
 */
export async function registerWorkload(
  database: Database,
  tenantId: string,
  workload: Workload,
  shared: boolean,
  { now, outbox, claim }: Change,
): Promise<"registered" | "missing" | "full"> {
  const { id, spiffe_id, trust_domain, role, created_at, created_by } = workload;
  const domain = sql`trust_domains where name = ${trust_domain} and shared = ${shared} and (shared or tenant_id = ${tenantId}::uuid)`;
  const hasRoom = sql`(select count(*) from workloads where tenant_id = ${tenantId}::uuid) < ${workloadsMax}`;
  const made = sql`from workloads where spiffe_id = ${spiffe_id} and principal_id = ${id}`;
  const results = await asTenant(database, tenantId, [
    ...forgetExpired(claim, now),
    servicePrincipalInsert(
      tenantId,
      { principal_id: id, role, created_at, created_by },
      sql`exists (select from ${domain}) and ${hasRoom}`,
    ),
    sql`insert into workloads (spiffe_id, trust_domain, tenant_id, principal_id, created_at, created_by)
        select ${spiffe_id}, ${trust_domain}, p.tenant_id, p.id, ${created_at}::timestamptz, ${created_by}
        from principals p where p.tenant_id = ${tenantId}::uuid and p.id = ${id}`,
    outbox(sql`where exists (select ${made})`),
    ...(claim === null ? [] : [rememberAnswer(claim, now, { status: 201, response: workload }, made)]),
    sql`select exists (select ${made}) as made, ${hasRoom} as has_room`,
  ]);
  const row = results.at(-1)?.[0];
  if (row?.["made"] === true) return "registered";
  return row?.["has_room"] === true ? "missing" : "full";
}

/** The SPIFFE ID of a workload's principal; null: the tenant has none such. */
export async function readWorkload(
  database: Database,
  tenantId: string,
  principalId: string,
): Promise<{ readonly spiffe_id: string; readonly trust_domain: string } | null> {
  const [rows] = await asTenant(database, tenantId, [
    sql`select spiffe_id, trust_domain from workloads where tenant_id = ${tenantId}::uuid and principal_id = ${principalId}`,
  ]);
  const row = rows?.[0];
  return row === undefined ? null : { spiffe_id: String(row["spiffe_id"]), trust_domain: String(row["trust_domain"]) };
}

/** The SPIFFE ID opens nothing any more when this returns; its principal stays, for what it did. */
export async function removeWorkload(
  database: Database,
  tenantId: string,
  principalId: string,
  { now, outbox, claim }: Change,
): Promise<void> {
  await asTenant(database, tenantId, [
    ...forgetExpired(claim, now),
    sql`with changed as (
          delete from workloads where tenant_id = ${tenantId}::uuid and principal_id = ${principalId} returning spiffe_id
        ) ${outbox(sql`where exists (select from changed)`)}`,
    ...(claim === null ? [] : [rememberAnswer(claim, now, { status: 204, response: null })]),
  ]);
}
