// Deltas of policies, from one version's tar to another's: which are made, which are worth it, and how the signed metadata names
// them. Called by `maestro policy publish`, by the upload (workers/api/policies/) and by the publisher; patch-tar.ts applies
// them. Nobody trusts one: what it makes counts only under the digest that was signed for the tar.

import { z } from "@hono/zod-openapi";
import { bundleBytesMax, type PolicyRevision } from "../contract/http-policies.ts";
import { sha256Digest, type Channel } from "../contract/names.ts";

/** The tars at both ends, in bytes: 64 MiB. Together they are one window of zstd's that any reader takes (2^27). */
export const deltaTarBytesMax = 64 * 1024 * 1024;
/** A delta is at most half of the tar.gz that it spares. */
const deltaShare = 0.5;
/** So no delta is larger than 32 MiB. */
export const deltaBytesMax = bundleBytesMax * deltaShare;
/** Tars of its own channel that a new one gets deltas from; beside them the other channel's, from which a promotion comes. */
const ownBasesMax = 2;
/** Deltas that one target names. */
export const deltasMax = ownBasesMax + 1;
/** Deltas that a tenant's targets name together: with more, the metadata could outgrow what fetchers read of it. */
export const deltasOfTenantMax = 2_000;

const namedDelta = z.strictObject({
  /** Of the tar that it starts from; it leads to the target's. */
  from: sha256Digest,
  bytes: z.int().min(1).max(deltaBytesMax),
  /** Of the delta's own file. */
  sha256: sha256Digest,
});
export type NamedDelta = z.infer<typeof namedDelta>;

/** As a target's signed `custom.deltas` has them. */
export const namedDeltas = z
  .array(namedDelta)
  .min(1)
  .max(deltasMax)
  .refine((deltas) => new Set(deltas.map(({ from }) => from)).size === deltas.length, "two deltas start from one tar");

export const isWorthIt = (deltaBytes: number, bundleBytes: number): boolean =>
  deltaBytes <= bundleBytes * deltaShare && deltaBytes <= deltaBytesMax;

/** Revisions of different tars, all of them small enough and none of them `tarSha256` itself; the newest first, as they came. */
function distinct(revisions: readonly PolicyRevision[], tarSha256: string, max: number): PolicyRevision[] {
  const found = new Map<string, PolicyRevision>();
  for (const revision of revisions) {
    if (revision.tar_sha256 === tarSha256 || revision.tar_bytes > deltaTarBytesMax) continue;
    if (!found.has(revision.tar_sha256) && found.size < max) found.set(revision.tar_sha256, revision);
  }
  return [...found.values()];
}

/**
 * What deltas are made from, when `tarSha256` is published on `channel`: what the channel had last, and what the other one has.
 * `revisions`: of the policy, in any order.
 */
export function basesToMake(
  revisions: readonly PolicyRevision[],
  channel: Channel,
  tarSha256: string,
): PolicyRevision[] {
  const newest = revisions.toSorted((left, right) => right.revision - left.revision);
  const own = newest.filter((revision) => revision.channel === channel);
  const other = newest.filter((revision) => revision.channel !== channel).slice(0, 1);
  const bases = [...distinct(own, tarSha256, ownBasesMax), ...other];
  return distinct(bases, tarSha256, deltasMax);
}

/** What fetchers of a channel may hold when it gets `tarSha256`. `revisions`: the channel's own, the newest first. */
export const basesToName = (revisions: readonly PolicyRevision[], tarSha256: string): PolicyRevision[] =>
  distinct(revisions, tarSha256, deltasMax);
