// All SQL of trust domains: whom an SVID names (as maestro_auth), and a tenant's domains and their bundles (as maestro_app). Called by
// authenticate-svid.ts, by the routes of /api/identity and by the refresh of bundles.

import { sql, type SQL } from "drizzle-orm";
import type { BundleEndpointStated, TrustDomainPut, TrustDomainView } from "../contract/http-identity.ts";
import { isoTime } from "../contract/iso-time.ts";
import { asTenant, inBatch, type Database, type Row } from "../tenancy/database.ts";
import { forgetExpired, rememberAnswer, type IdempotencyClaim } from "../tenancy/idempotency.ts";
import type { Holder, Outbox } from "../tenancy/store.ts";
import { distrustedAuthorities, lockDistrusts, namesOf } from "./distrust-store.ts";
import { isNearItsEnd } from "./near-its-end.ts";
import type { HeldBundle, ReceivedBundle } from "./receive-document.ts";

/** A timestamptz as the contract writes it: RFC 3339, UTC, milliseconds. */
export const time = (column: SQL): SQL => sql`to_char(${column} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`;
const textOrNull = (value: unknown): string | null => (typeof value === "string" ? value : null);
const numberOrNull = (value: unknown): number | null => (value === null || value === undefined ? null : Number(value));

export interface FoundSvid {
  /** Of the bundle in force; null: there is none. */
  readonly bundle_sha256: string | null;
  /** The document, unless it is the one whose digest was given. */
  readonly bundle: string | null;
  /** SVIDs that were not noted since then are to be noted; null: the domain was never watched. Milliseconds since 1970 UTC. */
  readonly watched_from_ms: number | null;
  /** Null, both: nobody who may use the domain has registered the ID. */
  readonly domain: "own" | "shared" | null;
  readonly holder: Holder | null;
}

/** Null: the trust domain is not known. `knownSha256`: the caller has that bundle. */
export async function svidHolder(
  database: Database,
  spiffeId: string,
  trustDomain: string,
  knownSha256: string | null,
): Promise<FoundSvid | null> {
  const [rows] = await inBatch(database, [
    sql`select d.bundle_sha256, case when d.bundle_sha256 is distinct from ${knownSha256} then d.bundle end as bundle,
          case when d.shared then 'shared' when d.tenant_id = w.tenant_id then 'own' end as domain,
          (extract(epoch from d.watched_from) * 1000)::bigint as watched_from_ms,
          t.id as tenant_id, t.slug as tenant, p.id as principal_id, p.kind, p.role, p.disabled_at is not null as disabled
        from trust_domains d
        left join workloads w on w.spiffe_id = ${spiffeId} and w.trust_domain = d.name
        left join tenants t on t.id = w.tenant_id
        left join principals p on p.tenant_id = w.tenant_id and p.id = w.principal_id
        where d.name = ${trustDomain}`,
  ]);
  const row = rows?.[0];
  if (row === undefined) return null;
  const domain = row["domain"] as FoundSvid["domain"];
  const isHeld = row["principal_id"] !== null && domain !== null;
  return {
    bundle_sha256: textOrNull(row["bundle_sha256"]),
    bundle: textOrNull(row["bundle"]),
    watched_from_ms: numberOrNull(row["watched_from_ms"]),
    domain: isHeld ? domain : null,
    holder: isHeld
      ? {
          tenant_id: String(row["tenant_id"]),
          tenant: String(row["tenant"]),
          principal_id: String(row["principal_id"]),
          kind: String(row["kind"]),
          role: String(row["role"]),
          disabled: row["disabled"] === true,
        }
      : null,
  };
}

/**
 * Seconds after which an endpoint is asked again: by the bundle's hint, which is kept between ten seconds and an hour; five minutes
 * without one (SPIFFE Federation 4.1); sooner while nothing came yet.
 */
const refreshSeconds = sql`case when confirmed_at is null then 30 else least(3600, greatest(10, coalesce(refresh_hint_s, 300))) end`;

/** So many of these without a good document are too many; of short ones, at least so many seconds. */
const missedRefreshes = 3;
const overdueSecondsMin = 600;

/** The bundle comes from an endpoint, and what was revoked there since may still be believed here. */
const isOverdue = (now: number): SQL => sql`(endpoint_url is not null and coalesce(confirmed_at, created_at)
  + greatest(${missedRefreshes} * ${refreshSeconds}, ${overdueSecondsMin}) * interval '1 second' <= ${isoTime(now)}::timestamptz)`;

/** At most so many are listed. */
export const domainsListed = 1_000;

const domainColumns = (
  tenantId: string,
  now: number,
): SQL => sql`d.name, d.tenant_id = ${tenantId}::uuid as own, d.shared,
  d.endpoint_url, d.endpoint_profile, d.distrusts, d.endpoint_server_id, d.bundle_sha256, d.sequence_max, d.refresh_hint_s,
  ${time(sql`d.first_from_at`)} as first_from_at, ${time(sql`d.first_until_at`)} as first_until_at,
  ${time(sql`d.confirmed_at`)} as confirmed_at, ${time(sql`d.bundle_changed_at`)} as changed_at, d.refused_reason, ${time(sql`d.refused_at`)} as refused_at,
  ${isOverdue(now)} as overdue,
  (select count(*) from workloads w where w.trust_domain = d.name)::int as workloads, ${time(sql`d.created_at`)} as created_at`;

/** The tenant's own and those that are shared, by name. */
export async function listDomains(database: Database, tenantId: string, now: number): Promise<TrustDomainView[]> {
  const [rows] = await asTenant(database, tenantId, [
    sql`select ${domainColumns(tenantId, now)} from trust_domains d order by d.name limit ${domainsListed}`,
  ]);
  return (rows ?? []).map((row) => domainOf(row, now));
}

/** Null: there is none, or it is not the tenant's to see. */
export async function readDomain(
  database: Database,
  tenantId: string,
  name: string,
  now: number,
): Promise<TrustDomainView | null> {
  const [rows] = await asTenant(database, tenantId, [
    sql`select ${domainColumns(tenantId, now)} from trust_domains d where d.name = ${name}`,
  ]);
  const row = rows?.[0];
  return row === undefined ? null : domainOf(row, now);
}

function domainOf(row: Row, now: number): TrustDomainView {
  const [sha256, from, until] = [
    textOrNull(row["bundle_sha256"]),
    textOrNull(row["first_from_at"]),
    textOrNull(row["first_until_at"]),
  ];
  const [reason, at] = [textOrNull(row["refused_reason"]), textOrNull(row["refused_at"])];
  return {
    name: String(row["name"]),
    own: row["own"] === true,
    shared: row["shared"] === true,
    endpoint: endpointOf(row),
    bundle:
      sha256 === null
        ? null
        : {
            sha256,
            sequence_max: numberOrNull(row["sequence_max"]),
            refresh_hint_seconds: numberOrNull(row["refresh_hint_s"]),
            changed_at: textOrNull(row["changed_at"]),
            first_authority_ends_at: until,
            alarm: from !== null && until !== null && isNearItsEnd(Date.parse(from), Date.parse(until), now),
          },
    confirmed_at: textOrNull(row["confirmed_at"]),
    overdue: row["overdue"] === true,
    refused: reason === null || at === null ? null : { reason, at },
    distrusts: Number(row["distrusts"]),
    workloads: Number(row["workloads"]),
    created_at: String(row["created_at"]),
  };
}

function endpointOf(row: Row): BundleEndpointStated | null {
  const url = textOrNull(row["endpoint_url"]);
  if (url === null) return null;
  const profile = row["endpoint_profile"] as BundleEndpointStated["profile"];
  return { url, profile, server_id: textOrNull(row["endpoint_server_id"]) };
}

export interface Change {
  readonly now: number;
  readonly principal_id: string;
  readonly outbox: Outbox;
  readonly claim: IdempotencyClaim | null;
}

/** Of a tenant. Of two that are stated at the same time both may still find room. */
export const trustDomainsMax = 100;

/** Domain, event and remembered answer (204), together or not at all. What stands so already leaves no event. */
export async function stateDomain(
  database: Database,
  tenantId: string,
  name: string,
  { shared, endpoint }: TrustDomainPut,
  { now, principal_id, outbox, claim }: Change,
): Promise<"stated" | "taken" | "not_curating" | "full"> {
  const stated = sql`${shared}::boolean, ${endpoint?.url ?? null}::text, ${endpoint?.profile ?? null}::text,
    ${endpoint?.server_id ?? null}::text`;
  const may = sql`(not ${shared}::boolean or app_curates())`;
  const own = sql`from trust_domains where name = ${name} and tenant_id = ${tenantId}::uuid and ${may}`;
  const hasRoom = sql`(select count(*) from trust_domains where tenant_id = ${tenantId}::uuid) < ${trustDomainsMax}`;
  const results = await asTenant(database, tenantId, [
    lockDistrusts(tenantId, name),
    ...forgetExpired(claim, now),
    sql`with made as (
          insert into trust_domains (name, tenant_id, shared, endpoint_url, endpoint_profile, endpoint_server_id, created_at,
            created_by, distrusts)
          select ${name}, ${tenantId}::uuid, ${stated}, ${isoTime(now)}::timestamptz, ${principal_id},
            (select count(*) from (${distrustedAuthorities(tenantId, name)}) as known) where ${may} and ${hasRoom}
          on conflict (name) do nothing returning name
        ), altered as (
          update trust_domains set shared = n.shared, endpoint_url = n.url, endpoint_profile = n.profile,
            endpoint_server_id = n.server_id
          from (select ${stated}) as n (shared, url, profile, server_id)
          where name = ${name} and tenant_id = ${tenantId}::uuid and ${may}
            and (trust_domains.shared, endpoint_url, endpoint_profile, endpoint_server_id)
              is distinct from (n.shared, n.url, n.profile, n.server_id)
          returning name
        ) ${outbox(sql`where exists (select from made) or exists (select from altered)`)}`,
    ...(claim === null ? [] : [rememberAnswer(claim, now, { status: 204, response: null }, own)]),
    sql`select ${may} as may, exists (select ${own}) as own, ${hasRoom} as has_room`,
  ]);
  const row = results.at(-1)?.[0];
  if (row?.["own"] === true) return "stated";
  if (row?.["may"] !== true) return "not_curating";
  return row["has_room"] === true ? "taken" : "full";
}

/**
 * Null: it is removed. Otherwise how many SPIFFE IDs of it the tenant has registered (0: other tenants have). Undefined: it is not
 * the tenant's. Throws what the driver throws where a tenant registers one at the same time (SQLSTATE 23503).
 */
export async function removeDomain(
  database: Database,
  tenantId: string,
  name: string,
  { now, outbox, claim }: Change,
): Promise<number | null | undefined> {
  const results = await asTenant(database, tenantId, [
    sql`select (select count(*) from workloads w where w.trust_domain = d.name)::int as count
        from trust_domains d where d.name = ${name} and d.tenant_id = ${tenantId}::uuid for update`,
    ...forgetExpired(claim, now),
    sql`with changed as (
          delete from trust_domains where name = ${name} and tenant_id = ${tenantId}::uuid
            and not exists (select from workloads w where w.trust_domain = ${name}) returning name
        ) ${outbox(sql`where exists (select from changed)`)}`,
    ...(claim === null
      ? []
      : [
          rememberAnswer(
            claim,
            now,
            { status: 204, response: null },
            sql`where not exists (select from trust_domains where name = ${name} and tenant_id = ${tenantId}::uuid)`,
          ),
        ]),
    sql`select name from trust_domains where name = ${name} and tenant_id = ${tenantId}::uuid`,
  ]);
  const before = results[0]?.[0];
  if (before === undefined) return undefined;
  return results.at(-1)?.length === 0 ? null : Number(before["count"]);
}

/** What came from an endpoint counts while that one is stated; null: it was handed in. */
const isStated = (endpoint: string | null): SQL =>
  endpoint === null ? sql`true` : sql`(endpoint_url = ${endpoint} and endpoint_profile = 'https_web')`;

/** Null: it is not the tenant's, or another endpoint than this one is stated. */
export async function heldBundle(
  database: Database,
  tenantId: string,
  name: string,
  endpoint: string | null,
): Promise<HeldBundle | null> {
  const [rows, distrusted] = await asTenant(database, tenantId, [
    sql`select bundle_sha256, sequence_max, sequence_max_sha256 from trust_domains
        where name = ${name} and tenant_id = ${tenantId}::uuid and ${isStated(endpoint)}`,
    distrustedAuthorities(tenantId, name),
  ]);
  const row = rows?.[0];
  if (row === undefined) return null;
  return {
    sha256: textOrNull(row["bundle_sha256"]),
    sequence_max: numberOrNull(row["sequence_max"]),
    sequence_max_sha256: textOrNull(row["sequence_max_sha256"]),
    distrusted: namesOf(distrusted),
  };
}

/**
 * Bundle, event and remembered answer, together or not at all; the bundle is in force when this returns true. False: what is held is
 * not `held` any more, or `endpoint` is not stated any more, and nothing was kept. The bundle that is in force already is confirmed, without an event.
 */
export async function keepBundle(
  database: Database,
  tenantId: string,
  name: string,
  held: HeldBundle,
  received: ReceivedBundle,
  {
    now,
    outbox,
    claim,
    response,
    endpoint,
  }: Pick<Change, "now" | "outbox" | "claim"> & { readonly response: unknown; readonly endpoint: string | null },
): Promise<boolean> {
  const { bundle, document, first } = received;
  const told =
    held.sha256 === bundle.digest ? sql`` : sql`, told as (${outbox(sql`where exists (select from changed)`)})`;
  const kept = sql`from trust_domains where name = ${name} and tenant_id = ${tenantId}::uuid
    and bundle_sha256 = ${bundle.digest} and confirmed_at = ${isoTime(now)}::timestamptz`;
  const results = await asTenant(database, tenantId, [
    sql`with changed as (
          update trust_domains set bundle = ${document}, bundle_sha256 = ${bundle.digest},
            sequence_max = ${received.sequence_max}::bigint, sequence_max_sha256 = ${received.sequence_max_sha256},
            refresh_hint_s = ${bundle.refreshHint}::bigint, confirmed_at = ${isoTime(now)}::timestamptz,
            bundle_changed_at = case when bundle_sha256 = ${bundle.digest} then bundle_changed_at else ${isoTime(now)}::timestamptz end,
            first_from_at = ${first === null ? null : isoTime(first.notBeforeMs)}::timestamptz,
            first_until_at = ${first === null ? null : isoTime(first.notAfterMs)}::timestamptz,
            refused_reason = null, refused_at = null
          where name = ${name} and tenant_id = ${tenantId}::uuid and ${isStated(endpoint)}
            and (bundle_sha256, sequence_max, sequence_max_sha256, distrusts)
              is not distinct from (${held.sha256}::text, ${held.sequence_max}::bigint, ${held.sequence_max_sha256}::text,
                ${held.distrusted.length}::int)
          returning name
        ) ${told} select name from changed`,
    ...forgetExpired(claim, now),
    ...(claim === null ? [] : [rememberAnswer(claim, now, { status: 200, response }, kept)]),
  ]);
  return results[0]?.length === 1;
}

/** Notes why an attempt brought nothing; the bundle in force stays. */
export async function noteRefusal(
  database: Database,
  tenantId: string,
  name: string,
  reason: string,
  now: number,
  endpoint: string | null,
): Promise<void> {
  await asTenant(database, tenantId, [
    sql`update trust_domains set refused_reason = ${reason.slice(0, 500)}, refused_at = ${isoTime(now)}::timestamptz
        where name = ${name} and tenant_id = ${tenantId}::uuid and ${isStated(endpoint)}`,
  ]);
}

/** The document in force, to the byte; null: there is none, or it is not the tenant's to see. */
export async function readBundle(database: Database, tenantId: string, name: string): Promise<string | null> {
  const [rows] = await asTenant(database, tenantId, [sql`select bundle from trust_domains where name = ${name}`]);
  return textOrNull(rows?.[0]?.["bundle"]);
}

/** As maestro_auth: the document in force of a domain that tenants share, for anyone. */
export async function sharedBundle(
  database: Database,
  name: string,
): Promise<{ readonly document: string; readonly sha256: string } | null> {
  const [rows] = await inBatch(database, [
    sql`select bundle, bundle_sha256 from trust_domains where name = ${name} and shared and bundle is not null`,
  ]);
  const row = rows?.[0];
  return row === undefined ? null : { document: String(row["bundle"]), sha256: String(row["bundle_sha256"]) };
}

interface DomainsHealth {
  readonly shared: readonly SharedDomainHealth[];
  /** Of all tenants. */
  readonly bundles: { readonly fetched: number; readonly overdue: number };
}

interface SharedDomainHealth {
  readonly trust_domain: string;
  readonly confirmed_at: string | null;
  readonly overdue: boolean;
  readonly last_rotated_at: string | null;
  readonly first_authority_ends_at: string | null;
  readonly alarm: boolean;
}

/**
 * As maestro_auth: when the bundles of domains that tenants share were confirmed, and when they end; of those that come from an
 * endpoint, whosever, how many there are and how many are overdue.
 */
export async function domainsHealth(database: Database, now: number): Promise<DomainsHealth> {
  const [rows, counts] = await inBatch(database, [
    sql`select name, ${time(sql`confirmed_at`)} as confirmed_at, ${time(sql`bundle_changed_at`)} as changed_at,
          ${time(sql`first_from_at`)} as first_from_at, ${time(sql`first_until_at`)} as first_until_at, ${isOverdue(now)} as overdue
        from trust_domains where shared order by name limit 100`,
    sql`select count(*)::int as fetched, (count(*) filter (where ${isOverdue(now)}))::int as overdue
        from trust_domains where endpoint_url is not null`,
  ]);
  const { fetched, overdue } = counts?.[0] ?? {};
  return {
    shared: (rows ?? []).map((row) => sharedDomainOf(row, now)),
    bundles: { fetched: Number(fetched), overdue: Number(overdue) },
  };
}

function sharedDomainOf(row: Row, now: number): SharedDomainHealth {
  const [from, until] = [textOrNull(row["first_from_at"]), textOrNull(row["first_until_at"])];
  return {
    trust_domain: String(row["name"]),
    confirmed_at: textOrNull(row["confirmed_at"]),
    overdue: row["overdue"] === true,
    last_rotated_at: textOrNull(row["changed_at"]),
    first_authority_ends_at: until,
    alarm: from !== null && until !== null && isNearItsEnd(Date.parse(from), Date.parse(until), now),
  };
}

export interface DueDomain {
  readonly name: string;
  readonly tenant_id: string;
  readonly url: string;
}

/** Domains that one run of the cron asks for: of each tenant those that were not for the longest time. */
const refreshedMax = 200;

/**
 * As maestro_drain: the domains whose endpoint (`https_web`) is to be asked again at `now`, after a failure at the next interval
 * (SPIFFE Federation 6.2). Tenants take turns: whoever states many endpoints that do not answer holds up their own.
 */
export async function dueDomains(database: Database, now: number): Promise<DueDomain[]> {
  const [rows] = await inBatch(database, [
    sql`select name, tenant_id, endpoint_url from (
          select name, tenant_id, endpoint_url, greatest(confirmed_at, refused_at) as asked_at,
            row_number() over (partition by tenant_id order by greatest(confirmed_at, refused_at) nulls first, name) as turn
          from trust_domains
          where endpoint_profile = 'https_web'
            and coalesce(greatest(confirmed_at, refused_at) + ${refreshSeconds} * interval '1 second' <= ${isoTime(now)}::timestamptz, true)
        ) as due order by turn, asked_at nulls first, name limit ${refreshedMax}`,
  ]);
  return (rows ?? []).map((row) => ({
    name: String(row["name"]),
    tenant_id: String(row["tenant_id"]),
    url: String(row["endpoint_url"]),
  }));
}
