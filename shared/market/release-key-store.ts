// The SQL of the marketplace's release keys: which are believed, and what one of them signed. Read by whoever verifies a release or a
// channel pointer, written by rotations.

import { sql } from "drizzle-orm";
import { signedBundle, type SignedBundle } from "../contract/events.ts";
import { isoTime } from "../contract/iso-time.ts";
import { channel as channelShape, type Channel } from "../contract/names.ts";
import { asTenant, inBatch, type Database } from "../tenancy/database.ts";

export interface ReleaseKeyRow {
  readonly kid: string;
  readonly spki: string;
  /** RFC 3339; null: it signs still. */
  readonly not_after: string | null;
  readonly revoked: boolean;
}

/** Every key that was not pinned, and pinned ones of which more is known. At most one a rotation, so they are few. */
export async function readReleaseKeys(database: Database): Promise<ReleaseKeyRow[]> {
  const [rows] = await inBatch(database, [
    sql`select kid, spki, to_char(not_after at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as not_after,
          revoked_at is not null as revoked from release_keys`,
  ]);
  return (rows ?? []).map((row) => ({
    kid: String(row["kid"]),
    spki: String(row["spki"]),
    not_after: row["not_after"] as string | null,
    revoked: row["revoked"] === true,
  }));
}

export interface NewReleaseKey {
  readonly kid: string;
  readonly spki: string;
  /** RFC 3339. */
  readonly not_before: string;
  /** Null: pinned. */
  readonly endorsement: SignedBundle | null;
}

/** Does nothing where the key is there. `tenantId` curates, or row security refuses it. */
export async function insertReleaseKey(
  database: Database,
  tenantId: string,
  rotation: string,
  key: NewReleaseKey,
  now: number,
): Promise<void> {
  const endorsement = key.endorsement === null ? null : JSON.stringify(key.endorsement);
  await asTenant(database, tenantId, [
    sql`insert into release_keys (kid, spki, not_before, endorsement, rotation_id, changed_at)
        values (${key.kid}, ${key.spki}, ${key.not_before}, ${endorsement}::jsonb, ${rotation}, ${isoTime(now)})
        on conflict do nothing`,
  ]);
}

/** `not_after`, `revoked_at`: RFC 3339; what is set stays as it is. */
export async function endReleaseKey(
  database: Database,
  tenantId: string,
  kid: string,
  end: { readonly not_after: string | null; readonly revoked_at: string | null },
  now: number,
): Promise<void> {
  await asTenant(database, tenantId, [
    sql`update release_keys set not_after = coalesce(not_after, ${end.not_after}::timestamptz),
          revoked_at = coalesce(revoked_at, ${end.revoked_at}::timestamptz), changed_at = ${isoTime(now)}
        where kid = ${kid}`,
  ]);
}

/** Of a key that never signed: revoked, also where it was not believed yet. `tenantId` curates, or row security refuses it. */
export async function refuseReleaseKey(
  database: Database,
  tenantId: string,
  rotation: string,
  { kid, spki, not_before }: Omit<NewReleaseKey, "endorsement">,
  now: number,
): Promise<void> {
  await asTenant(database, tenantId, [
    sql`insert into release_keys as known (kid, spki, not_before, not_after, revoked_at, rotation_id, changed_at)
        values (${kid}, ${spki}, ${not_before}, ${not_before}, ${isoTime(now)}, ${rotation}, ${isoTime(now)})
        on conflict (kid) do update set not_after = coalesce(known.not_after, excluded.not_after),
          revoked_at = coalesce(known.revoked_at, excluded.revoked_at), changed_at = excluded.changed_at`,
  ]);
}

const hintOf = (column: string) => sql.raw(`${column} #>> '{verificationMaterial,publicKey,hint}'`);

/** How many releases and live channels stand on a signature of this key. */
export async function countSignedBy(
  database: Database,
  tenantId: string,
  kid: string,
): Promise<{ readonly releases: number; readonly channels: number }> {
  const [rows] = await asTenant(database, tenantId, [
    sql`select (select count(*) from releases where ${hintOf("marketplace_bundle")} = ${kid})::int as releases,
          (select count(*) from channel_pointers where ${hintOf("bundle")} = ${kid})::int as channels`,
  ]);
  return { releases: Number(rows?.[0]?.["releases"] ?? 0), channels: Number(rows?.[0]?.["channels"] ?? 0) };
}

export interface SignedPointerRow {
  readonly package: string;
  readonly channel: Channel;
  readonly publisher_tenant_id: string;
  readonly sequence: number;
  /** RFC 3339. */
  readonly moved_at: string;
  readonly bundle: SignedBundle;
  readonly publisher_bundle: SignedBundle;
  readonly publisher_key: string;
  readonly marketplace_bundle: SignedBundle;
}

/** Live channels whose pointer this key signed, `limit` at most. */
export async function pointersSignedBy(
  database: Database,
  tenantId: string,
  kid: string,
  limit: number,
): Promise<SignedPointerRow[]> {
  const [rows] = await asTenant(database, tenantId, [
    sql`select c.package, c.channel, p.publisher_tenant_id, c.sequence, c.moved_at, c.bundle, r.publisher_bundle,
          r.publisher_spki as publisher_key, r.marketplace_bundle
        from channel_pointers c join packages p on p.name = c.package join releases r on r.id = c.release_id
        where ${hintOf("c.bundle")} = ${kid} order by c.package, c.channel limit ${limit}`,
  ]);
  return (rows ?? []).map((row) => ({
    package: String(row["package"]),
    channel: channelShape.parse(row["channel"]),
    publisher_tenant_id: String(row["publisher_tenant_id"]),
    sequence: Number(row["sequence"]),
    moved_at: new Date(String(row["moved_at"])).toISOString(),
    bundle: signedBundle.parse(row["bundle"]),
    publisher_bundle: signedBundle.parse(row["publisher_bundle"]),
    publisher_key: String(row["publisher_key"]),
    marketplace_bundle: signedBundle.parse(row["marketplace_bundle"]),
  }));
}

/** The same move, signed anew; does nothing where the channel has moved since. */
export async function replacePointerBundle(
  database: Database,
  { publisher_tenant_id, package: name, channel, sequence, bundle: old }: SignedPointerRow,
  bundle: SignedBundle,
): Promise<void> {
  await asTenant(database, publisher_tenant_id, [
    sql`update channel_pointers set bundle = ${JSON.stringify(bundle)}::jsonb
        where package = ${name} and channel = ${channel} and sequence = ${sequence} and bundle = ${JSON.stringify(old)}::jsonb`,
  ]);
}

export interface CountersignedRow {
  readonly id: string;
  readonly publisher_bundle: SignedBundle;
  readonly publisher_key: string;
}

/** Releases that this key countersigned, `limit` at most. */
export async function releasesSignedBy(
  database: Database,
  tenantId: string,
  kid: string,
  limit: number,
): Promise<CountersignedRow[]> {
  const [rows] = await asTenant(database, tenantId, [
    sql`select id, publisher_bundle, publisher_spki as publisher_key from releases
        where ${hintOf("marketplace_bundle")} = ${kid} order by id limit ${limit}`,
  ]);
  return (rows ?? []).map((row) => ({
    id: String(row["id"]),
    publisher_bundle: signedBundle.parse(row["publisher_bundle"]),
    publisher_key: String(row["publisher_key"]),
  }));
}

/** `tenantId` curates. Does nothing where another key has countersigned it meanwhile. */
export async function replaceCountersignature(
  database: Database,
  tenantId: string,
  id: string,
  kid: string,
  bundle: SignedBundle,
): Promise<void> {
  await asTenant(database, tenantId, [
    sql`update releases set marketplace_bundle = ${JSON.stringify(bundle)}::jsonb
        where id = ${id} and ${hintOf("marketplace_bundle")} = ${kid}`,
  ]);
}
