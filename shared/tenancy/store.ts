// All SQL of tenancy: who holds a credential (as maestro_auth), and a tenant's API keys (as maestro_app). Called by
// authentication and by routes/tenancy.

import { sql, type SQL } from "drizzle-orm";
import type { ApiKey, Principal } from "../contract/http-tenancy.ts";
import { isoTime } from "../contract/iso-time.ts";
import type { Caller, FetcherSvids } from "./caller.ts";
import { asTenant, inBatch, type Condition, type Database, type Row } from "./database.ts";
import { forgetExpired, rememberAnswer, type IdempotencyClaim } from "./idempotency.ts";

export interface Holder {
  readonly tenant_id: string;
  readonly tenant: string;
  readonly principal_id: string;
  readonly kind: string;
  readonly role: string;
  readonly disabled: boolean;
}

/** `last_used_at` is written at most once in so many milliseconds. */
const lastUsedEveryMs = 60_000;

export interface KeyHolder extends Holder {
  readonly revoked: boolean;
  readonly expired: boolean;
  readonly fetcher_svids: FetcherSvids;
}

/** The principal behind a key's digest, usable or not; a key that is usable is noted as used, to the minute. */
export async function keyHolder(database: Database, secretSha256: string, now: number): Promise<KeyHolder | null> {
  const [rows] = await inBatch(database, [
    sql`with found as (
          select k.id, k.last_used_at, k.revoked_at is not null as revoked,
            coalesce(k.expires_at <= ${isoTime(now)}::timestamptz, false) as expired,
            ${fetcherRegistered} as fetcher_registered, ${spiffeEverywhere} as spiffe_everywhere, ${holderColumns}
          from api_keys k
          join principals p on p.tenant_id = k.tenant_id and p.id = k.principal_id
          join tenants t on t.id = k.tenant_id
          where k.secret_sha256 = ${secretSha256}
        ), used as (
          update api_keys set last_used_at = ${isoTime(now)}::timestamptz
          where id in (
            select id from found where not revoked and not expired and not disabled
              and coalesce(last_used_at <= ${isoTime(now - lastUsedEveryMs)}::timestamptz, true)
          )
        )
        select revoked, expired, fetcher_registered, spiffe_everywhere, tenant_id, tenant, principal_id, kind, role, disabled from found`,
  ]);
  const row = rows?.[0];
  return row === undefined
    ? null
    : {
        ...holder(row),
        revoked: row["revoked"] === true,
        expired: row["expired"] === true,
        fetcher_svids: {
          registered: row["fetcher_registered"] === true,
          everywhere: row["spiffe_everywhere"] === true,
        },
      };
}

/**
 * The tenant of the key `k` has registered a SPIFFE ID of a fetcher. The order makes it one look into an index: for an `exists` the
 * planner may read all workloads of all tenants, in the hope that one of the first is such a one.
 */
export const fetcherRegistered = sql`(
  select w.principal_id from workloads w where w.tenant_id = k.tenant_id and w.role = 'fetcher'
  order by w.principal_id limit 1) is not null`;

/** The flag of the tenant of the key `k`; on where the tenant says nothing. */
const spiffeEverywhere = sql`not exists (
  select from tenant_flags g where g.tenant_id = k.tenant_id and g.flag = 'spiffe_everywhere' and not g.enabled)`;

/**
 * True where the key is still usable at `now`, and its holder is still this caller in every respect that a decision asks about: what
 * `keyHolder` reads, read once more. Row security shows it the tenant's own keys only.
 */
export const keyStillHeld = (secretSha256: string, caller: Caller, now: number): Condition => sql`exists (
  select from api_keys k
  join principals p on p.tenant_id = k.tenant_id and p.id = k.principal_id
  join tenants t on t.id = k.tenant_id
  where k.secret_sha256 = ${secretSha256} and k.tenant_id = ${caller.tenant_id}::uuid
    and k.principal_id = ${caller.principal_id} and k.revoked_at is null
    and coalesce(k.expires_at > ${isoTime(now)}::timestamptz, true)
    and p.disabled_at is null and p.role = ${caller.role} and p.kind = ${caller.kind} and t.slug = ${caller.tenant}
    ${caller.role === "fetcher" ? sameSvids(caller) : sql``})`;

/** Asked of fetchers alone: no decision about others reads it. */
const sameSvids = ({ fetcher_svids: svids }: Caller): SQL =>
  sql`and (${fetcherRegistered}) = ${svids?.registered ?? false} and (${spiffeEverywhere}) = ${svids?.everywhere ?? false}`;

/** The principal that an issuer's subject is tied to, or null. */
export async function tokenHolder(database: Database, issuer: string, subject: string): Promise<Holder | null> {
  const [rows] = await inBatch(database, [
    sql`select ${holderColumns}
        from principal_identities i
        join principals p on p.tenant_id = i.tenant_id and p.id = i.principal_id
        join tenants t on t.id = i.tenant_id
        where i.issuer = ${issuer} and i.subject = ${subject}`,
  ]);
  const row = rows?.[0];
  return row === undefined ? null : holder(row);
}

const holderColumns = sql`t.id as tenant_id, t.slug as tenant, p.id as principal_id, p.kind, p.role,
  p.disabled_at is not null as disabled`;

const holder = (row: Row): Holder => ({
  tenant_id: String(row["tenant_id"]),
  tenant: String(row["tenant"]),
  principal_id: String(row["principal_id"]),
  kind: String(row["kind"]),
  role: String(row["role"]),
  disabled: row["disabled"] === true,
});

/** Throws where Postgres does not answer. */
export async function pingDatabase(database: Database): Promise<void> {
  await inBatch(database, [sql`select 1`]);
}

/** A statement of the outbox that a guard can be put on: `outboxInsert(events, shards, where)` of shared/outbox. */
export type Outbox = (where: SQL) => SQL;

/** At most so many keys are listed, newest first. */
export const keysListed = 1_000;

export async function listKeys(database: Database, tenantId: string): Promise<ApiKey[]> {
  const [rows] = await asTenant(database, tenantId, [
    sql`select k.id, k.principal_id, p.role, k.prefix, ${time(sql`k.created_at`)} as created_at,
          ${time(sql`k.expires_at`)} as expires_at, ${time(sql`date_trunc('minute', k.last_used_at)`)} as last_used_at,
          ${time(sql`k.revoked_at`)} as revoked_at
        from api_keys k join principals p on p.tenant_id = k.tenant_id and p.id = k.principal_id
        where k.tenant_id = ${tenantId}
        order by k.created_at desc, k.id desc limit ${keysListed}`,
  ]);
  return (rows ?? []).map((row) => ({
    id: String(row["id"]),
    principal_id: String(row["principal_id"]),
    role: row["role"] as ApiKey["role"],
    prefix: String(row["prefix"]),
    created_at: String(row["created_at"]),
    expires_at: row["expires_at"] as string | null,
    last_used_at: row["last_used_at"] as string | null,
    revoked_at: row["revoked_at"] as string | null,
  }));
}

/** A timestamptz as the contract writes it: RFC 3339, UTC, milliseconds. */
const time = (column: SQL): SQL => sql`to_char(${column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`;

/** A service principal, of the same origin as its creator, where `where` holds. Nothing is inserted where there is no such creator. */
export const servicePrincipalInsert = (
  tenantId: string,
  principal: {
    readonly principal_id: string;
    readonly role: string;
    readonly created_at: string;
    readonly created_by: string;
  },
  where: Condition,
): SQL =>
  sql`insert into principals (id, tenant_id, kind, role, created_at, created_by, origin_id)
      select ${principal.principal_id}, c.tenant_id, 'service', ${principal.role}, ${principal.created_at}::timestamptz, c.id,
        coalesce(c.origin_id, c.id)
      from principals c where c.tenant_id = ${tenantId}::uuid and c.id = ${principal.created_by} and ${where}`;

/** Principal (of the same origin as its creator), key, event and remembered answer, together or not at all. */
export async function insertKey(
  database: Database,
  tenantId: string,
  now: number,
  key: ApiKey & { readonly secret_sha256: string; readonly created_by: string },
  outbox: Outbox,
  remember: { readonly claim: IdempotencyClaim; readonly response: unknown } | null,
): Promise<void> {
  await asTenant(database, tenantId, [
    ...forgetExpired(remember?.claim ?? null, now),
    servicePrincipalInsert(tenantId, key, sql`true`),
    sql`insert into api_keys (id, tenant_id, principal_id, prefix, secret_sha256, created_at, expires_at)
        values (${key.id}, ${tenantId}, ${key.principal_id}, ${key.prefix}, ${key.secret_sha256}, ${key.created_at},
          ${key.expires_at})`,
    outbox(sql``),
    ...(remember === null ? [] : [rememberAnswer(remember.claim, now, { status: 201, response: remember.response })]),
  ]);
}

/** At most so many principals are listed, newest first. */
export const principalsListed = 1_000;

export async function listPrincipals(database: Database, tenantId: string): Promise<Principal[]> {
  const [rows] = await asTenant(database, tenantId, [
    sql`select p.id, p.kind, p.role, ${time(sql`p.created_at`)} as created_at, ${time(sql`p.disabled_at`)} as disabled_at,
          coalesce((
            select jsonb_agg(jsonb_build_object('issuer', i.issuer, 'subject', i.subject) order by i.issuer, i.subject)
            from principal_identities i where i.tenant_id = p.tenant_id and i.principal_id = p.id
          ), '[]') as identities
        from principals p where p.tenant_id = ${tenantId}
        order by p.created_at desc, p.id desc limit ${principalsListed}`,
  ]);
  return (rows ?? []).map((row) => ({
    id: String(row["id"]),
    kind: row["kind"] as Principal["kind"],
    role: row["role"] as Principal["role"],
    created_at: String(row["created_at"]),
    disabled_at: row["disabled_at"] as string | null,
    identities: row["identities"] as Principal["identities"],
  }));
}

/** Drops what ties a principal to a person, with its event where there was something; false where there is no such principal. */
export async function erasePrincipal(
  database: Database,
  tenantId: string,
  now: number,
  principalId: string,
  outbox: Outbox,
  claim: IdempotencyClaim | null,
): Promise<boolean> {
  const known = sql`from principals where tenant_id = ${tenantId} and id = ${principalId}`;
  const results = await asTenant(database, tenantId, [
    ...forgetExpired(claim, now),
    sql`with changed as (
          delete from principal_identities where tenant_id = ${tenantId} and principal_id = ${principalId} returning subject
        ) ${outbox(sql`where exists (select from changed)`)}`,
    ...(claim === null ? [] : [rememberAnswer(claim, now, { status: 204, response: null }, known)]),
    sql`select id ${known}`,
  ]);
  return results.at(-1)?.length === 1;
}

/**
 * True where two principals are one person where two have to agree: they are the same one, or the access of both comes from
 * the same one, through keys that made keys. A principal of another tenant has another origin.
 */
export async function sameOrigin(
  database: Database,
  tenantId: string,
  principalId: string,
  other: string | null,
): Promise<boolean> {
  if (other === null || other === principalId) return other !== null;
  const [rows] = await asTenant(database, tenantId, [
    sql`select a.id from principals a join principals b on b.tenant_id = a.tenant_id
        where a.tenant_id = ${tenantId} and a.id = ${principalId} and b.id = ${other}
          and coalesce(a.origin_id, a.id) = coalesce(b.origin_id, b.id)`,
  ]);
  return rows?.length === 1;
}

/** False where the tenant has no such key. A key that was revoked before stays as it is, and leaves no second event. */
export async function revokeKey(
  database: Database,
  tenantId: string,
  now: number,
  keyId: string,
  outbox: Outbox,
  claim: IdempotencyClaim | null,
): Promise<boolean> {
  const known = sql`from api_keys where tenant_id = ${tenantId} and id = ${keyId}`;
  const results = await asTenant(database, tenantId, [
    ...forgetExpired(claim, now),
    sql`with changed as (
          update api_keys set revoked_at = ${isoTime(now)}
          where tenant_id = ${tenantId} and id = ${keyId} and revoked_at is null returning id
        ) ${outbox(sql`where exists (select from changed)`)}`,
    ...(claim === null ? [] : [rememberAnswer(claim, now, { status: 204, response: null }, known)]),
    sql`select id ${known}`,
  ]);
  return results.at(-1)?.length === 1;
}

/** Whether the tenant curates the marketplace, and with it runs the platform's keys. */
export async function tenantCurates(database: Database, tenantId: string): Promise<boolean> {
  const [rows] = await asTenant(database, tenantId, [sql`select app_curates() as curates`]);
  return rows?.[0]?.["curates"] === true;
}
