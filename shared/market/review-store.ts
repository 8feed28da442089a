// The SQL of reviews: the queue, what a reviewer compares, and the decision, which two tenants' logs are told of.

import { sql, type SQL } from "drizzle-orm";
import type { AuditEvent } from "../contract/events.ts";
import { releaseFile, type Release, type ReleaseFile } from "../contract/http-market.ts";
import { outboxInsert } from "../outbox/outbox.ts";
import { asTenant, asTenants, type Database } from "../tenancy/database.ts";
import { forgetExpired, rememberAnswer, type IdempotencyClaim } from "../tenancy/idempotency.ts";
import { pointerWrite, pointerWritten, type PointerMove } from "./channel-store.ts";
import { knownOf, releaseColumns, releaseOf, type KnownRelease } from "./release-store.ts";
import { versionOrder } from "./version-order.ts";

/** What waits for the tenant's reviewers, oldest first; nothing where it does not curate. */
export async function listQueue(
  database: Database,
  tenantId: string,
  limit: number,
  after: { readonly submitted_at: string; readonly id: string } | null,
): Promise<Release[]> {
  const later = after === null ? sql`` : sql`and (r.submitted_at, r.id) > (${after.submitted_at}, ${after.id})`;
  const [rows] = await asTenant(database, tenantId, [
    sql`select ${releaseColumns(tenantId)} from releases r
        where r.state = 'in_review' and app_curates() ${later} order by r.submitted_at, r.id limit ${limit}`,
  ]);
  return (rows ?? []).map(releaseOf);
}

/** A release that the tenant's reviewers may see the review of, or null. */
export async function readReviewed(database: Database, tenantId: string, id: string): Promise<KnownRelease | null> {
  const [rows] = await asTenant(database, tenantId, [
    sql`select ${releaseColumns(tenantId)}, r.publisher_tenant_id, r.uploaded_by from releases r
        where r.id = ${id} and app_curates() and r.state <> 'draft'`,
  ]);
  return rows?.[0] === undefined ? null : knownOf(rows[0]);
}

/** The release of that version that waits in the tenant's queue, or null. */
export async function readReviewedVersion(
  database: Database,
  tenantId: string,
  name: string,
  version: string,
): Promise<KnownRelease | null> {
  const [rows] = await asTenant(database, tenantId, [
    sql`select ${releaseColumns(tenantId)}, r.publisher_tenant_id, r.uploaded_by from releases r
        where r.package = ${name} and r.version = ${version} and app_curates() and r.state = 'in_review'`,
  ]);
  return rows?.[0] === undefined ? null : knownOf(rows[0]);
}

export interface Contents {
  readonly files: readonly ReleaseFile[];
  readonly unpacked_bytes: number;
}

export interface Compared {
  readonly contents: Contents | null;
  readonly before: { readonly release: Release; readonly contents: Contents | null } | null;
}

/** The files of a release, and the release before it: the newest published one below its version, else the newest. */
export async function readCompared(database: Database, tenantId: string, of: Release): Promise<Compared> {
  const order = versionOrder(of.version);
  const [own, before] = await asTenant(database, tenantId, [
    sql`select files, unpacked_bytes from release_files where release_id = ${of.id}`,
    sql`select ${releaseColumns(tenantId)}, f.files, f.unpacked_bytes
        from releases r left join release_files f on f.release_id = r.id
        where r.package = ${of.package} and r.state = 'published' and r.id <> ${of.id}
        order by r.version_order < ${order} desc, r.version_order desc limit 1`,
  ]);
  const found = before?.[0];
  if (found === undefined) return { contents: contentsOf(own?.[0]), before: null };
  const { files, unpacked_bytes, ...row } = found;
  return {
    contents: contentsOf(own?.[0]),
    before: { release: releaseOf(row), contents: contentsOf({ files, unpacked_bytes }) },
  };
}

/** Null for releases from before files were listed. */
function contentsOf(row: Readonly<Record<string, unknown>> | undefined): Contents | null {
  if (row === undefined || row["files"] === null) return null;
  return { files: releaseFile.array().parse(row["files"]), unpacked_bytes: Number(row["unpacked_bytes"]) };
}

export interface ReviewDecision {
  /** The release as it is once decided: what the key is answered. */
  readonly release: Release;
  readonly publisher_tenant_id: string;
  readonly reviewed_by: string;
  /** For the reviewing tenant's log. */
  readonly reviewed_event: AuditEvent;
  /** For the publishing tenant's log. */
  readonly told_events: readonly AuditEvent[];
  readonly claim: IdempotencyClaim;
  readonly now: number;
  /** The channel's move, where an approval moves it. */
  readonly move: (PointerMove & { readonly event: AuditEvent }) | null;
}

/**
 * One transaction of two parts: as the reviewing tenant the release, its event and the answer; as the publishing tenant
 * the package's description, the pointer and the events. False where the release is not in review any more: nothing
 * changed. `"moved"` where the pointer has moved since it was signed: nothing changed either, sign again.
 */
export async function decideReview(
  database: Database,
  tenantId: string,
  shards: number,
  decision: ReviewDecision,
): Promise<"decided" | "not_in_review" | "moved"> {
  const { release: row, claim, now, move } = decision;
  const decided = sql`exists (
    select from releases
    where id = ${row.id} and state = ${row.state} and reviewed_by = ${decision.reviewed_by} and reviewed_at = ${row.reviewed_at}
  )`;
  try {
    const [reviewed] = await asTenants(database, [
      {
        tenant_id: tenantId,
        statements: [
          ...forgetExpired(claim, now),
          sql`with changed as (
                update releases set state = ${row.state}, reviewed_by = ${decision.reviewed_by},
                  reviewed_at = ${row.reviewed_at}, review_reason = ${row.review_reason},
                  marketplace_bundle = ${row.marketplace_bundle === null ? null : JSON.stringify(row.marketplace_bundle)}::jsonb,
                  published_at = ${row.published_at}
                where id = ${row.id} and state = 'in_review' and app_curates() returning id
              ), remembered as (${rememberAnswer(claim, now, { status: 200, response: row }, sql`from changed`)})
              ${outboxInsert([decision.reviewed_event], shards, sql`where exists (select from changed)`)}`,
        ],
      },
      {
        tenant_id: decision.publisher_tenant_id,
        statements: [
          ...(row.state === "published" ? [describePackage(row, decided)] : []),
          ...(move === null ? [] : [pointerWrite(move, decided), pointerTold(move, shards, decided)]),
          outboxInsert(decision.told_events, shards, sql`where ${decided}`),
        ],
      },
    ]);
    return (reviewed?.at(-1) ?? []).length > 0 ? "decided" : "not_in_review";
  } catch (error) {
    if (isStalePointer(error)) return "moved";
    throw error;
  }
}

const describePackage = ({ package: name, manifest }: Release, guard: SQL): SQL =>
  manifest.description === undefined
    ? sql`select 1`
    : sql`update packages set description = ${manifest.description} where name = ${name} and ${guard}`;

/**
 * The event of a pointer's move, or an error that takes the whole transaction back: a release that is published while its
 * channel was moved by someone else is decided again. Division by zero is the one error that plain SQL can raise.
 */
function pointerTold(move: PointerMove & { readonly event: AuditEvent }, shards: number, guard: SQL): SQL {
  const written = pointerWritten(move.pointer);
  return sql`with told as (${outboxInsert([move.event], shards, sql`where ${written}`)})
    select 1 / (case when ${written} or not ${guard} then 1 else 0 end) as told from (select count(*) from told) t`;
}

/** SQLSTATE 22012, division by zero: raised by `pointerTold` alone. */
function isStalePointer(error: unknown): boolean {
  for (let at = error, depth = 0; at !== null && typeof at === "object" && depth < 8; depth += 1) {
    if ("code" in at && at.code === "22012") return true;
    at = "cause" in at ? at.cause : null;
  }
  return false;
}
