// All SQL of rotating a trust domain's authority: who presented which authority (as maestro_app, for the workload's own tenant), and what
// a rotation looks at (as maestro_auth, since a shared domain has other tenants' workloads). Called by compose.ts and by
// workers/api/rotations.

import { sql, type SQL } from "drizzle-orm";
import { isoTime } from "../contract/iso-time.ts";
import { asTenant, inBatch, type Database, type Row } from "../tenancy/database.ts";
import type { Sighting } from "./sighting-notes.ts";

/** Rows of a workload go with its next one when they are older. */
const keptMs = 7 * 24 * 3_600_000;
/** Of those that a rotation waits for, so many are named. */
const firstMax = 5;
/** Of a shared domain: tenants whose copies in the stores are read back. */
const mirroringMax = 500;
/** Domains of a tenant that are looked through for their rotations: those that were rotated last. */
const rotatedMax = 50;

/** A row that was seen at `floorMs` or later stays as it is. Nothing where the tenant has no such workload any more. */
export async function keepSighting(
  database: Database,
  { tenant_id, spiffe_id, slot, kid }: Sighting,
  seenMs: number,
  floorMs: number,
): Promise<void> {
  await asTenant(database, tenant_id, [
    sql`insert into workload_sightings (spiffe_id, tenant_id, slot, kid, seen_at)
        select spiffe_id, tenant_id, ${slot}, ${kid}, ${isoTime(seenMs)}::timestamptz
        from workloads where spiffe_id = ${spiffe_id} and tenant_id = ${tenant_id}::uuid
        on conflict (spiffe_id, slot, kid)
          do update set seen_at = greatest(workload_sightings.seen_at, excluded.seen_at)
          where workload_sightings.seen_at < ${isoTime(floorMs)}::timestamptz`,
    sql`delete from workload_sightings where spiffe_id = ${spiffe_id} and seen_at < ${isoTime(seenMs - keptMs)}::timestamptz`,
  ]);
}

/** False: the tenant states no such domain. */
export async function noteRotated(
  database: Database,
  tenantId: string,
  trustDomain: string,
  now: number,
): Promise<boolean> {
  const [rows] = await asTenant(database, tenantId, [
    sql`update trust_domains set rotated_at = ${isoTime(now)}::timestamptz
        where name = ${trustDomain} and tenant_id = ${tenantId}::uuid returning name`,
  ]);
  return rows?.length === 1;
}

/** `rotated`: of the domains that the tenant states, those whose authority was rotated last; `any`: it states one at all. */
export async function rotatedDomains(
  database: Database,
  tenantId: string,
): Promise<{ readonly any: boolean; readonly rotated: readonly string[] }> {
  const own = sql`from trust_domains where tenant_id = ${tenantId}::uuid`;
  const [any, rotated] = await asTenant(database, tenantId, [
    sql`select 1 ${own} limit 1`,
    sql`select name ${own} and rotated_at is not null order by rotated_at desc limit ${rotatedMax}`,
  ]);
  return { any: any?.length === 1, rotated: (rotated ?? []).map((row) => String(row["name"])) };
}

/** SVIDs of the domain that are presented from now on are noted at once. */
export async function watchDomain(
  database: Database,
  tenantId: string,
  trustDomain: string,
  now: number,
): Promise<void> {
  await asTenant(database, tenantId, [
    sql`update trust_domains set watched_from = ${isoTime(now)}::timestamptz
        where name = ${trustDomain} and tenant_id = ${tenantId}::uuid`,
  ]);
}

export interface RotatedDomain {
  /** Null, both: there is none. */
  readonly document: string | null;
  readonly sha256: string | null;
  /** Of the tenants that have a repository and fetchers of this domain: into whose copies in the stores its bundle is mirrored. */
  readonly slugs: readonly string[];
}

/** As maestro_auth, at one moment. Null: the tenant states no such domain. */
export async function readRotatedDomain(
  database: Database,
  tenantId: string,
  trustDomain: string,
): Promise<RotatedDomain | null> {
  const [domains, tenants] = await inBatch(database, [
    sql`select bundle, bundle_sha256 from trust_domains where name = ${trustDomain} and tenant_id = ${tenantId}::uuid`,
    sql`select distinct t.slug from workloads w
          join principals p on p.tenant_id = w.tenant_id and p.id = w.principal_id
          join policy_repositories r on r.tenant_id = w.tenant_id
          join tenants t on t.id = w.tenant_id
        where w.trust_domain = ${trustDomain} and p.role = 'fetcher' and p.disabled_at is null
        order by t.slug limit ${mirroringMax}`,
  ]);
  const row = domains?.[0];
  if (row === undefined) return null;
  const [document, sha256] = [row["bundle"], row["bundle_sha256"]];
  return {
    document: typeof document === "string" ? document : null,
    sha256: typeof sha256 === "string" ? sha256 : null,
    slugs: (tenants ?? []).map((each) => String(each["slug"])),
  };
}

type Names = readonly { readonly slot: string; readonly kid: string }[];

/** What the workloads of a domain presented, their principals not disabled. */
export interface SeenOfDomain {
  /** Registered, seen or not. */
  readonly workloads: number;
  /** An SVID by one of the new authorities was taken. */
  readonly is_new_seen: boolean;
  /** Somebody presented an old one while the domain was watched. */
  readonly is_old_seen: boolean;
  /** Of those that were seen since `sinceMs`: who presented an old one when it was seen last, or while the domain was watched. */
  readonly still_old: SomeOf;
  /** Of the others: who presented nothing while the domain was watched. */
  readonly unseen: SomeOf;
}

/** A workload's SPIFFE ID with the kind of its SVID, which comes over by itself. The first of them, and how many there are. */
export interface SomeOf {
  readonly first: readonly string[];
  readonly count: number;
}

const live = sql`workloads w join principals p on p.tenant_id = w.tenant_id and p.id = w.principal_id
  and p.disabled_at is null`;
const among = (names: Names): SQL =>
  sql`s.slot || ' ' || s.kid in (
    select jsonb_array_elements_text(${JSON.stringify(names.map(({ slot, kid }) => `${slot} ${kid}`))}::jsonb))`;

/** As maestro_auth, at one moment. A domain that was never watched has only `unseen` ones. */
export async function seenOfDomain(
  database: Database,
  trustDomain: string,
  { old, next, sinceMs }: { readonly old: Names; readonly next: Names; readonly sinceMs: number },
): Promise<SeenOfDomain> {
  const seen = sql`from workload_sightings s join ${live} on w.spiffe_id = s.spiffe_id
    join trust_domains d on d.name = w.trust_domain where w.trust_domain = ${trustDomain}`;
  const isWatched = sql`coalesce(s.seen_at >= d.watched_from, false)`;
  const isOld = among(old);
  const isBehind = sql`(bool_or(${isWatched} and ${isOld})
    or coalesce(max(s.seen_at) filter (where ${isOld}) = max(s.seen_at), false))`;
  const some = (which: SQL): SQL =>
    sql`select s.spiffe_id, s.slot, count(*) over () as count ${seen} and s.seen_at >= ${isoTime(sinceMs)}::timestamptz
        group by s.spiffe_id, s.slot having ${which} order by s.spiffe_id, s.slot limit ${firstMax}`;
  const [counts, behind, unseen] = await inBatch(database, [
    sql`select (select count(*) from ${live} where w.trust_domain = ${trustDomain})::int as workloads,
          exists (select ${seen} and ${among(next)}) as is_new_seen,
          exists (select ${seen} and ${isWatched} and ${isOld}) as is_old_seen`,
    some(isBehind),
    some(sql`not ${isBehind} and not bool_or(${isWatched})`),
  ]);
  return {
    workloads: Number(counts?.[0]?.["workloads"] ?? 0),
    is_new_seen: counts?.[0]?.["is_new_seen"] === true,
    is_old_seen: counts?.[0]?.["is_old_seen"] === true,
    still_old: someOf(behind),
    unseen: someOf(unseen),
  };
}

/** As maestro_auth: how many workloads are registered, and who presented one of `names` when it was seen last. */
export async function lastByAuthorities(
  database: Database,
  trustDomain: string,
  names: Names,
): Promise<{ readonly workloads: number; readonly last: SomeOf }> {
  const [counts, last] = await inBatch(database, [
    sql`select count(*) as workloads from ${live} where w.trust_domain = ${trustDomain}`,
    sql`select s.spiffe_id, s.slot, count(*) over () as count
        from workload_sightings s join ${live} on w.spiffe_id = s.spiffe_id where w.trust_domain = ${trustDomain}
        group by s.spiffe_id, s.slot having max(s.seen_at) filter (where ${among(names)}) = max(s.seen_at)
        order by s.spiffe_id, s.slot limit ${firstMax}`,
  ]);
  return { workloads: Number(counts?.[0]?.["workloads"] ?? 0), last: someOf(last) };
}

const someOf = (rows: readonly Row[] | undefined): SomeOf => ({
  first: (rows ?? []).map((row) => `${String(row["spiffe_id"])} (${String(row["slot"])})`),
  count: Number(rows?.[0]?.["count"] ?? 0),
});
