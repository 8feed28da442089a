// The SQL of publisher keys, releases, channel pointers and installs.

import { sql } from "drizzle-orm";
import type { AuditEvent } from "../contract/events.ts";
import {
  install,
  publisherKey,
  release,
  type Install,
  type PublisherKey,
  type Release,
} from "../contract/http-market.ts";
import type { Channel } from "../contract/names.ts";
import { outboxInsert } from "../outbox/outbox.ts";
import { asTenant, type Database, type Row } from "../tenancy/database.ts";
import { forgetExpired, rememberAnswer, type IdempotencyClaim } from "../tenancy/idempotency.ts";
import { versionOrder } from "./version-order.ts";

const iso = (value: unknown): string => new Date(String(value)).toISOString();

const releaseColumns = sql`r.id, r.package, r.version, r.channel, r.artifact_sha256, r.artifact_bytes, r.units, r.manifest,
  r.publisher_bundle, r.marketplace_bundle, r.publisher_spki as publisher_key, r.published_at`;

const releaseOf = (row: Row): Release => release.parse({ ...row, published_at: iso(row["published_at"]) });
const installOf = (row: Row): Install => install.parse({ ...row, changed_at: iso(row["changed_at"]) });

/** Key, event and answer in one transaction; false where the key stood there already, and nothing changed. */
export async function insertPublisherKey(
  database: Database,
  tenantId: string,
  shards: number,
  key: PublisherKey,
  event: AuditEvent,
  claim: IdempotencyClaim,
  now: number,
): Promise<boolean> {
  const results = await asTenant(database, tenantId, [
    ...forgetExpired(claim, now),
    sql`with changed as (
          insert into publisher_keys (tenant_id, key_id, spki, created_at)
          values (${tenantId}, ${key.key_id}, ${key.spki}, ${key.created_at}) on conflict do nothing returning key_id
        ), remembered as (${rememberAnswer(claim, now, { status: 201, response: key }, sql`from changed`)})
        ${outboxInsert([event], shards, sql`where exists (select from changed)`)}`,
  ]);
  return (results.at(-1) ?? []).length > 0;
}

/** For an answer that changed nothing: what the key was told stays told. */
export async function remember(
  database: Database,
  tenantId: string,
  claim: IdempotencyClaim,
  now: number,
  response: unknown,
): Promise<void> {
  await asTenant(database, tenantId, [
    ...forgetExpired(claim, now),
    rememberAnswer(claim, now, { status: 201, response }),
  ]);
}

/** The tenant's own publisher key, revoked ones included, or null. */
export async function readPublisherKey(database: Database, tenantId: string, keyId: string) {
  const [rows] = await asTenant(database, tenantId, [
    sql`select key_id, spki, created_at, revoked_at from publisher_keys
        where tenant_id = ${tenantId} and key_id = ${keyId}`,
  ]);
  return rows?.[0] === undefined ? null : publisherKeyOf(rows[0]);
}

const publisherKeyOf = (row: Row) =>
  publisherKey.parse({
    ...row,
    created_at: iso(row["created_at"]),
    revoked_at: row["revoked_at"] === null ? null : iso(row["revoked_at"]),
  });

export async function packageOwner(
  database: Database,
  tenantId: string,
  name: string,
): Promise<"none" | "self" | "other"> {
  const [rows] = await asTenant(database, tenantId, [
    sql`select publisher_tenant_id = ${tenantId}::uuid as own from packages where name = ${name}`,
  ]);
  const own = rows?.[0]?.["own"];
  if (own === undefined) return "none";
  return own === true ? "self" : "other";
}

/**
 * Package (if new), release, channel pointer, event and answer in one transaction. The pointer moves up only: to a version
 * of higher precedence than the one that it points to. Throws unique violations, and `isForbidden` errors where the
 * package has become another tenant's.
 */
export async function insertRelease(
  database: Database,
  tenantId: string,
  shards: number,
  row: Release,
  event: AuditEvent,
  claim: IdempotencyClaim,
  now: number,
): Promise<void> {
  const order = versionOrder(row.version);
  await asTenant(database, tenantId, [
    ...forgetExpired(claim, now),
    sql`insert into packages (name, publisher_tenant_id, created_at)
        values (${row.package}, ${tenantId}, ${row.published_at}) on conflict (name) do nothing`,
    sql`insert into releases (id, package, publisher_tenant_id, version, channel, artifact_sha256, artifact_bytes, units,
          manifest, publisher_bundle, marketplace_bundle, publisher_spki, published_at, version_order)
        values (${row.id}, ${row.package}, ${tenantId}, ${row.version}, ${row.channel}, ${row.artifact_sha256},
          ${row.artifact_bytes}, ${row.units}, ${JSON.stringify(row.manifest)}::jsonb,
          ${JSON.stringify(row.publisher_bundle)}::jsonb, ${JSON.stringify(row.marketplace_bundle)}::jsonb,
          ${row.publisher_key}, ${row.published_at}, ${order})`,
    sql`insert into channel_pointers (package, channel, release_id, moved_at)
        values (${row.package}, ${row.channel}, ${row.id}, ${row.published_at})
        on conflict (package, channel) do update set release_id = excluded.release_id, moved_at = excluded.moved_at
          where (select version_order from releases r where r.id = channel_pointers.release_id) < ${order}`,
    outboxInsert([event], shards),
    rememberAnswer(claim, now, { status: 201, response: row }),
  ]);
}

export async function readRelease(
  database: Database,
  tenantId: string,
  name: string,
  by: { readonly version: string } | { readonly channel: Channel },
): Promise<Release | null> {
  const statement =
    "version" in by
      ? sql`select ${releaseColumns} from releases r where r.package = ${name} and r.version = ${by.version}`
      : sql`select ${releaseColumns} from channel_pointers c join releases r on r.id = c.release_id
            where c.package = ${name} and c.channel = ${by.channel}`;
  const [rows] = await asTenant(database, tenantId, [statement]);
  return rows?.[0] === undefined ? null : releaseOf(rows[0]);
}

const installColumns = sql`i.id, i.package, i.version, i.channel, i.artifact_sha256, i.units, i.release_id, i.changed_at`;

export async function listInstalls(database: Database, tenantId: string): Promise<Install[]> {
  const [rows] = await asTenant(database, tenantId, [
    sql`select ${installColumns} from installs i where i.tenant_id = ${tenantId} order by i.package`,
  ]);
  return (rows ?? []).map(installOf);
}

/** The tenant's install of a package, and the wall time that its release declares. */
export async function readInstall(
  database: Database,
  tenantId: string,
  name: string,
): Promise<{ install: Install; wall_ms: number } | null> {
  const [rows] = await asTenant(database, tenantId, [
    sql`select ${installColumns}, (r.manifest -> 'limits' ->> 'wall_ms')::int as wall_ms
        from installs i join releases r on r.id = i.release_id
        where i.tenant_id = ${tenantId} and i.package = ${name}`,
  ]);
  if (rows?.[0] === undefined) return null;
  const { wall_ms: wallMs, ...row } = rows[0];
  return { install: installOf(row), wall_ms: Number(wallMs) };
}

/** True where a release with this artifact is installed by the tenant now, or was published by it. */
export async function mayFetchArtifact(database: Database, tenantId: string, sha256: string): Promise<boolean> {
  const [rows] = await asTenant(database, tenantId, [
    sql`select exists (select from installs where tenant_id = ${tenantId} and artifact_sha256 = ${sha256})
          or exists (select from releases where publisher_tenant_id = ${tenantId} and artifact_sha256 = ${sha256}) as may`,
  ]);
  return rows?.[0]?.["may"] === true;
}

export interface PutInstall {
  readonly row: Install;
  /** The release that was installed when the change was decided, or null. */
  readonly from_release_id: string | null;
  /** Version of the entitlements that it was decided on. */
  readonly entitlement_version: number;
  readonly principal_id: string;
  readonly event: AuditEvent;
  readonly claim: IdempotencyClaim;
  readonly now: number;
}

/**
 * Install row, its history, event and answer in one transaction; false where the install or the entitlements are no longer
 * what was decided on: nothing changed, decide again.
 */
export async function putInstall(
  database: Database,
  tenantId: string,
  shards: number,
  { row, claim, now, ...given }: PutInstall,
): Promise<boolean> {
  const write =
    given.from_release_id === null
      ? sql`on conflict do nothing`
      : sql`on conflict (tenant_id, package) do update set release_id = excluded.release_id, version = excluded.version,
              channel = excluded.channel, artifact_sha256 = excluded.artifact_sha256, units = excluded.units,
              changed_at = excluded.changed_at
            where installs.release_id = ${given.from_release_id}`;
  const results = await asTenant(database, tenantId, [
    ...forgetExpired(claim, now),
    sql`with entitled as (
          select from entitlement_versions
          where tenant_id = ${tenantId} and version = ${given.entitlement_version} for share
        ), changed as (
          insert into installs (tenant_id, package, id, release_id, version, channel, artifact_sha256, units, changed_at)
          select ${tenantId}::uuid, ${row.package}, ${row.id}, ${row.release_id}, ${row.version}, ${row.channel},
            ${row.artifact_sha256}, ${row.units}::int, ${row.changed_at}::timestamptz from entitled
          ${write} returning id
        ), told as (
          insert into install_history
            (tenant_id, package, release_id, version, channel, artifact_sha256, principal_id, changed_at)
          select ${tenantId}::uuid, ${row.package}, ${row.release_id}, ${row.version}, ${row.channel},
            ${row.artifact_sha256}, ${given.principal_id}, ${row.changed_at}::timestamptz from changed
        ), remembered as (${rememberAnswer(claim, now, { status: 201, response: row }, sql`from changed`)})
        ${outboxInsert([given.event], shards, sql`where exists (select from changed)`)}`,
  ]);
  return (results.at(-1) ?? []).length > 0;
}
