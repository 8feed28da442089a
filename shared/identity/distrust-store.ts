// All SQL of distrusted authorities: which ones a tenant's trust domain has, and the commit in which some become so and leave the bundle in
// force. As maestro_app. Called by store.ts, and by workers/api/rotations.

import { isoTime } from "../contract/iso-time.ts";
import { sql, type SQL } from "drizzle-orm";
import { asTenant, type Database, type Row } from "../tenancy/database.ts";
import type { Outbox } from "../tenancy/store.ts";
import type { AuthorityName, AuthoritySlot } from "./authorities.ts";
import type { ReceivedBundle } from "./receive-document.ts";

/** Of the advisory locks, those of distrusts: "mcdi" in ASCII. */
const lockClass = 0x6d63_6469;
const textOrNull = (value: unknown): string | null => (typeof value === "string" ? value : null);

/** In a transaction, before a trust domain is stated or an authority distrusted: neither overlooks the other. */
export const lockDistrusts = (tenantId: string, trustDomain: string): SQL =>
  sql`select pg_advisory_xact_lock(${lockClass}, hashtext(${`${tenantId} ${trustDomain}`}))`;

export const distrustedAuthorities = (tenantId: string, trustDomain: string): SQL =>
  sql`select slot, kid from distrusted_authorities
      where tenant_id = ${tenantId}::uuid and trust_domain = ${trustDomain} order by slot, kid`;

export const namesOf = (rows: readonly Row[] | undefined): AuthorityName[] =>
  (rows ?? []).map((row) => ({ slot: row["slot"] as AuthoritySlot, kid: String(row["kid"]) }));

export interface Believed {
  /** The tenant states the domain. */
  readonly isStated: boolean;
  /** Null, both: there is no bundle. */
  readonly document: string | null;
  readonly sha256: string | null;
  readonly distrusted: readonly AuthorityName[];
}

export async function readBelieved(database: Database, tenantId: string, trustDomain: string): Promise<Believed> {
  const [rows, distrusted] = await asTenant(database, tenantId, [
    sql`select bundle, bundle_sha256 from trust_domains where name = ${trustDomain} and tenant_id = ${tenantId}::uuid`,
    distrustedAuthorities(tenantId, trustDomain),
  ]);
  const row = rows?.[0];
  return {
    isStated: row !== undefined,
    document: textOrNull(row?.["bundle"]),
    sha256: textOrNull(row?.["bundle_sha256"]),
    distrusted: namesOf(distrusted),
  };
}

export interface Distrust {
  /** None that is distrusted already. */
  readonly names: readonly AuthorityName[];
  readonly rotation_id: string;
  /** The bundle in force without them; null where there is none. */
  readonly next: Pick<ReceivedBundle, "document" | "bundle" | "first"> | null;
  readonly now: number;
  readonly outbox: Outbox;
}

/**
 * The names, the bundle without them and the event, together or not at all; from the commit on nothing is believed of them. False: what
 * is held is not `before` any more, and nothing was kept.
 */
export async function keepDistrust(
  database: Database,
  tenantId: string,
  trustDomain: string,
  before: Believed,
  { names, rotation_id, next, now, outbox }: Distrust,
): Promise<boolean> {
  const own = sql`name = ${trustDomain} and tenant_id = ${tenantId}::uuid`;
  const first = next?.first ?? null;
  const bundle =
    next === null
      ? sql``
      : sql`, bundle = ${next.document}, bundle_sha256 = ${next.bundle.digest}, bundle_changed_at = ${isoTime(now)}::timestamptz,
          first_from_at = ${first === null ? null : isoTime(first.notBeforeMs)}::timestamptz,
          first_until_at = ${first === null ? null : isoTime(first.notAfterMs)}::timestamptz`;
  const isAsBefore = before.isStated
    ? sql`exists (select from changed)`
    : sql`not exists (select from trust_domains where ${own})`;
  const [, added] = await asTenant(database, tenantId, [
    lockDistrusts(tenantId, trustDomain),
    sql`with changed as (
          update trust_domains set distrusts = ${before.distrusted.length + names.length}::int${bundle}
          where ${own} and ${before.isStated}::boolean and (bundle_sha256, distrusts)
            is not distinct from (${before.sha256}::text, ${before.distrusted.length}::int)
          returning name
        ), added as (
          insert into distrusted_authorities (tenant_id, trust_domain, slot, kid, rotation_id, distrusted_at)
          select ${tenantId}::uuid, ${trustDomain}, n.slot, n.kid, ${rotation_id}, ${isoTime(now)}::timestamptz
          from jsonb_to_recordset(${JSON.stringify(names)}::jsonb) as n (slot text, kid text) where ${isAsBefore}
          returning kid
        ), told as (${outbox(sql`where exists (select from added)`)}) select kid from added`,
  ]);
  return added?.length === names.length;
}
