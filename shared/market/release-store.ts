// The SQL of publisher keys and releases, as their own tenant writes them and everyone reads them.

import { sql, type SQL } from "drizzle-orm";
import type { AuditEvent } from "../contract/events.ts";
import { publisherKey, release, type PublisherKey, type Release, type ReleaseFile } from "../contract/http-market.ts";
import type { Channel } from "../contract/names.ts";
import { outboxInsert } from "../outbox/outbox.ts";
import { asTenant, type Database, type Row } from "../tenancy/database.ts";
import { forgetExpired, rememberAnswer, type IdempotencyClaim } from "../tenancy/idempotency.ts";
import { versionOrder } from "./version-order.ts";

const iso = (value: unknown): string => new Date(String(value)).toISOString();

/** `review_reason` is for the publisher and reviewers: null for everyone else. */
export const releaseColumns = (tenantId: string): SQL => sql`r.id, r.package, r.version, r.channel, r.state,
  r.artifact_sha256, r.artifact_bytes, r.units, r.manifest, r.publisher_bundle, r.marketplace_bundle,
  r.publisher_spki as publisher_key, r.uploaded_at, r.submitted_at, r.reviewed_at,
  case when r.publisher_tenant_id = ${tenantId}::uuid or app_curates() then r.review_reason end as review_reason,
  r.published_at, r.yanked_at, r.yank_reason`;

const times = ["uploaded_at", "submitted_at", "reviewed_at", "published_at", "yanked_at"] as const;

export const releaseOf = (row: Row): Release =>
  release.parse({
    ...row,
    ...Object.fromEntries(times.map((name) => [name, row[name] === null ? null : iso(row[name])])),
  });

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

/** The tenant's own publisher key, revoked ones included, or null. */
export async function readPublisherKey(database: Database, tenantId: string, keyId: string) {
  const [rows] = await asTenant(database, tenantId, [
    sql`select key_id, spki, created_at, revoked_at from publisher_keys
        where tenant_id = ${tenantId} and key_id = ${keyId}`,
  ]);
  return rows?.[0] === undefined ? null : publisherKeyOf(rows[0]);
}

/** The tenant's publisher keys that are not revoked, the newest first, at most `limit`. */
export async function publisherKeysOf(database: Database, tenantId: string, limit: number) {
  const [rows] = await asTenant(database, tenantId, [
    sql`select key_id, spki, created_at, revoked_at from publisher_keys
        where tenant_id = ${tenantId} and revoked_at is null order by created_at desc, key_id limit ${limit}`,
  ]);
  return (rows ?? []).map(publisherKeyOf);
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

/** What a release is kept with beside its row. */
export interface NewRelease {
  readonly row: Release;
  readonly uploaded_by: string;
  readonly files: readonly ReleaseFile[];
  readonly unpacked_bytes: number;
  readonly event: AuditEvent;
  readonly claim: IdempotencyClaim;
  readonly now: number;
}

/**
 * Package (if new), release, its list of files, event and answer in one transaction. Throws unique violations, and
 * `isForbidden` errors where the package has become another tenant's.
 */
export async function insertRelease(
  database: Database,
  tenantId: string,
  shards: number,
  { row, claim, now, ...given }: NewRelease,
): Promise<void> {
  await asTenant(database, tenantId, [
    ...forgetExpired(claim, now),
    sql`insert into packages (name, publisher_tenant_id, created_at)
        values (${row.package}, ${tenantId}, ${row.uploaded_at}) on conflict (name) do nothing`,
    sql`insert into releases (id, package, publisher_tenant_id, version, channel, state, artifact_sha256, artifact_bytes,
          units, manifest, publisher_bundle, publisher_spki, uploaded_by, uploaded_at, submitted_at, version_order)
        values (${row.id}, ${row.package}, ${tenantId}, ${row.version}, ${row.channel}, ${row.state}, ${row.artifact_sha256},
          ${row.artifact_bytes}, ${row.units}, ${JSON.stringify(row.manifest)}::jsonb,
          ${JSON.stringify(row.publisher_bundle)}::jsonb, ${row.publisher_key}, ${given.uploaded_by}, ${row.uploaded_at},
          ${row.submitted_at}, ${versionOrder(row.version)})`,
    sql`insert into release_files (release_id, files, unpacked_bytes)
        values (${row.id}, ${JSON.stringify(given.files)}::jsonb, ${given.unpacked_bytes})`,
    outboxInsert([given.event], shards),
    rememberAnswer(claim, now, { status: 201, response: row }),
  ]);
}

/** By version (never a rejected one), or the one that a channel points to; null where the tenant sees none. */
export async function readRelease(
  database: Database,
  tenantId: string,
  name: string,
  by: { readonly version: string } | { readonly channel: Channel },
): Promise<Release | null> {
  const statement =
    "version" in by
      ? sql`select ${releaseColumns(tenantId)} from releases r
            where r.package = ${name} and r.version = ${by.version} and r.state <> 'rejected'`
      : sql`select ${releaseColumns(tenantId)} from channel_pointers c join releases r on r.id = c.release_id
            where c.package = ${name} and c.channel = ${by.channel}`;
  const [rows] = await asTenant(database, tenantId, [statement]);
  return rows?.[0] === undefined ? null : releaseOf(rows[0]);
}

/** A release as its own tenant and a reviewer know it. */
export interface KnownRelease {
  readonly release: Release;
  readonly publisher_tenant_id: string;
  readonly uploaded_by: string | null;
}

export async function readReleaseById(database: Database, tenantId: string, id: string): Promise<KnownRelease | null> {
  const [rows] = await asTenant(database, tenantId, [
    sql`select ${releaseColumns(tenantId)}, r.publisher_tenant_id, r.uploaded_by from releases r where r.id = ${id}`,
  ]);
  return rows?.[0] === undefined ? null : knownOf(rows[0]);
}

export function knownOf({ publisher_tenant_id: publisher, uploaded_by: by, ...row }: Row): KnownRelease {
  return {
    release: releaseOf(row),
    publisher_tenant_id: String(publisher),
    uploaded_by: typeof by === "string" ? by : null,
  };
}

/** Releases of a package that the tenant may see, the newest version first, strictly after `before` (a release's id) when given. */
export async function listReleases(
  database: Database,
  tenantId: string,
  name: string,
  limit: number,
  before: string | null,
): Promise<Release[]> {
  const after =
    before === null
      ? sql``
      : sql`and (r.version_order, r.id) < (select b.version_order, b.id from releases b where b.id = ${before})`;
  const [rows] = await asTenant(database, tenantId, [
    sql`select ${releaseColumns(tenantId)} from releases r where r.package = ${name} ${after}
        order by r.version_order desc, r.id desc limit ${limit}`,
  ]);
  return (rows ?? []).map(releaseOf);
}

/** A change of a release's state by its own tenant. */
export interface StateChange {
  readonly release: Release;
  readonly event: AuditEvent;
  readonly claim: IdempotencyClaim;
  readonly now: number;
}

/** draft → in review, with event and answer; false where it is no draft any more: nothing changed. */
export const submitRelease = (database: Database, tenantId: string, shards: number, change: StateChange) =>
  changeState(
    database,
    tenantId,
    shards,
    change,
    sql`update releases set state = 'in_review', submitted_at = ${change.release.submitted_at}
        where id = ${change.release.id} and publisher_tenant_id = ${tenantId} and state = 'draft' returning id`,
  );

/** published → yanked, with event and answer; false where it is not published any more: nothing changed. */
export const yankRelease = (
  database: Database,
  tenantId: string,
  shards: number,
  change: StateChange & { readonly yanked_by: string },
) =>
  changeState(
    database,
    tenantId,
    shards,
    change,
    sql`update releases set state = 'yanked', yanked_at = ${change.release.yanked_at}, yanked_by = ${change.yanked_by},
          yank_reason = ${change.release.yank_reason}
        where id = ${change.release.id} and publisher_tenant_id = ${tenantId} and state = 'published' returning id`,
  );

async function changeState(
  database: Database,
  tenantId: string,
  shards: number,
  { release: row, event, claim, now }: StateChange,
  update: SQL,
): Promise<boolean> {
  const results = await asTenant(database, tenantId, [
    ...forgetExpired(claim, now),
    sql`with changed as (${update}),
          remembered as (${rememberAnswer(claim, now, { status: 200, response: row }, sql`from changed`)})
        ${outboxInsert([event], shards, sql`where exists (select from changed)`)}`,
  ]);
  return (results.at(-1) ?? []).length > 0;
}

/**
 * True where a release with this artifact is installed by the tenant, or was (a run that started before an upgrade still
 * fetches what it started with, and a rollback goes back to it), was published by it, or waits for its review.
 */
export async function mayFetchArtifact(database: Database, tenantId: string, sha256: string): Promise<boolean> {
  const [rows] = await asTenant(database, tenantId, [
    sql`select exists (select from install_history where tenant_id = ${tenantId} and artifact_sha256 = ${sha256})
          or exists (
            select from releases where artifact_sha256 = ${sha256}
              and (publisher_tenant_id = ${tenantId} or (state = 'in_review' and app_curates()))
          ) as may`,
  ]);
  return rows?.[0]?.["may"] === true;
}

export interface PublishedVersion {
  readonly version: string;
  readonly artifact_sha256: string;
  readonly units: number;
}

/** Versions of a package that are looked through for one that a tenant may use. */
export const publishedListed = 1_000;

/** Versions of a package that are published and not yanked, the newest first. */
export async function listPublished(database: Database, tenantId: string, name: string): Promise<PublishedVersion[]> {
  const [rows] = await asTenant(database, tenantId, [
    sql`select version, artifact_sha256, units from releases where package = ${name} and state = 'published'
        order by version_order desc limit ${publishedListed}`,
  ]);
  return (rows ?? []).map((row) => ({
    version: String(row["version"]),
    artifact_sha256: String(row["artifact_sha256"]),
    units: Number(row["units"]),
  }));
}

/** Releases by id, those of them that the tenant may see. */
export async function readReleasesById(
  database: Database,
  tenantId: string,
  ids: readonly string[],
): Promise<ReadonlyMap<string, Release>> {
  const [rows] = await asTenant(database, tenantId, [
    sql`select ${releaseColumns(tenantId)} from releases r
        where r.id in (select jsonb_array_elements_text(${JSON.stringify(ids)}::jsonb))`,
  ]);
  return new Map((rows ?? []).map((row) => [String(row["id"]), releaseOf(row)] as const));
}
