// Manifests: the signed statement about one sealed range. It binds the segment's bytes to its leaf range and to the
// tree's head after it, and carries the signed checkpoint. The log makes one a seal; verifiers read them.

import { z } from "@hono/zod-openapi";
import { sha256Digest, tenantId, timestamp } from "../contract/names.ts";
import { hex, hexBytes } from "../contract/bytes.ts";
import { statement, type Statement } from "../signing/statement.ts";
import { parseCheckpoint } from "./checkpoint.ts";
import { rangeName, segmentKey, type Range } from "./layout.ts";
import type { SegmentSchemaVersion } from "./segment-schema.ts";

export const manifestPredicateType = "https://maestro-conductor.dev/attestations/audit-segment/v1";

const count = z.int().min(0);

export const manifestPredicate = z.strictObject({
  /** That of the segment, too: which columns it has. */
  schema_version: z.union([z.literal(1), z.literal(2)]),
  tenant_id: tenantId,
  from: count,
  to: count,
  row_count: count,
  segment_bytes: count,
  tree_size: count,
  root_sha256: sha256Digest,
  previous: z
    .string()
    .regex(/^\d{20}-\d{20}$/)
    .nullable(),
  sealed_at: timestamp,
  first_logged_at: timestamp,
  last_logged_at: timestamp,
  checkpoint: z.string().max(4096),
});
export type ManifestPredicate = z.infer<typeof manifestPredicate>;

export interface ManifestParts {
  readonly tenantId: string;
  readonly range: Range;
  readonly previous: Range | null;
  readonly segment: {
    readonly sha256: string;
    readonly byteCount: number;
    readonly schemaVersion: SegmentSchemaVersion;
  };
  readonly root: Uint8Array;
  readonly sealedAt: string;
  readonly firstLoggedAt: string;
  readonly lastLoggedAt: string;
  readonly checkpoint: string;
}

export const manifestStatement = (parts: ManifestParts): Statement =>
  statement({
    subject: [{ name: segmentKey(parts.tenantId, parts.range), digest: { sha256: parts.segment.sha256 } }],
    predicateType: manifestPredicateType,
    predicate: {
      schema_version: parts.segment.schemaVersion,
      tenant_id: parts.tenantId,
      from: parts.range.from,
      to: parts.range.to,
      row_count: parts.range.to - parts.range.from,
      segment_bytes: parts.segment.byteCount,
      tree_size: parts.range.to,
      root_sha256: hex(parts.root),
      previous: parts.previous === null ? null : rangeName(parts.previous),
      sealed_at: parts.sealedAt,
      first_logged_at: parts.firstLoggedAt,
      last_logged_at: parts.lastLoggedAt,
      checkpoint: parts.checkpoint,
    } satisfies ManifestPredicate,
  });

export type ReadManifest =
  | { ok: true; segmentSha256: string; predicate: ManifestPredicate }
  | { ok: false; reason: string };

/** What a verified statement claims, if it is a manifest of this tenant and range that does not contradict itself. */
export function readManifest(signed: Statement, expectedTenantId: string, range: Range): ReadManifest {
  if (signed.predicateType !== manifestPredicateType) return { ok: false, reason: "the statement is no manifest" };
  const parsed = manifestPredicate.safeParse(signed.predicate);
  if (!parsed.success) return { ok: false, reason: "the manifest does not fit its schema" };
  const predicate = parsed.data;
  const [subject, ...others] = signed.subject;
  if (subject === undefined || others.length > 0) return { ok: false, reason: "a manifest is about one segment" };
  if (predicate.tenant_id !== expectedTenantId) return { ok: false, reason: "the manifest is another tenant's" };
  if (predicate.from !== range.from || predicate.to !== range.to || predicate.row_count !== range.to - range.from) {
    return { ok: false, reason: "the manifest is of another range" };
  }
  if (subject.name !== segmentKey(expectedTenantId, range))
    return { ok: false, reason: "the manifest names another segment" };
  const head = parseCheckpoint(predicate.checkpoint);
  if (
    head === null ||
    head.size !== range.to ||
    predicate.tree_size !== range.to ||
    hex(head.root) !== hex(hexBytes(predicate.root_sha256))
  ) {
    return { ok: false, reason: "the manifest and its checkpoint are of different trees" };
  }
  return { ok: true, segmentSha256: subject.digest.sha256, predicate };
}
