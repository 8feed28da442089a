// Deltas to a bundle that is about to be published: from what its channel had last, and from what the other channel has. Called by
// `maestro policy publish`. A delta spares fetchers bytes and is needed by nobody: where one cannot be made, that is told, and
// the bundle is published without it.

import { createHash } from "node:crypto";
import type { Bytes } from "../../shared/contract/bytes.ts";
import type { PolicyRevision } from "../../shared/contract/http-policies.ts";
import type { Channel } from "../../shared/contract/names.ts";
import { basesToMake, deltaTarBytesMax, isWorthIt } from "../../shared/edge/delta.ts";
import { tarInside } from "../../shared/edge/patch-tar.ts";
import type { Api } from "../api.ts";
import { edgeTools } from "../edge/node-parts.ts";
import { makeDelta } from "../edge/zstd-delta.ts";
import { ApiProblem, Failure } from "../failure.ts";
import type { SourceBundle } from "./bundle-source.ts";

/** A sentence for each base, of what came of it. Throws Failure `interrupted` alone. */
export async function putDeltas(
  api: Api,
  policy: string,
  channel: Channel,
  { bytes, bundle }: Pick<SourceBundle, "bytes" | "bundle">,
): Promise<string[]> {
  const revisions = await optional(() => revisionsOf(api, policy));
  if (typeof revisions === "string") return [`no deltas: ${revisions}`];
  const newest = revisions.filter((one) => one.channel === channel).toSorted((a, b) => b.revision - a.revision)[0];
  // Publishing it changes nothing, so that nothing would name a delta.
  if (newest?.bundle_sha256 === bundle.sha256) return [];
  const bases = basesToMake(revisions, channel, bundle.tar_sha256);
  if (bases.length === 0) return [];
  if (bundle.tar_bytes > deltaTarBytesMax) return [`no deltas: it unpacks to more than ${deltaTarBytesMax} bytes`];
  const tar = await tarOf(bytes, bundle.tar_sha256);
  const told: string[] = [];
  for (const base of bases) {
    const made = await optional(() => putDelta(api, policy, base, { tar, tarSha256: bundle.tar_sha256, bytes }));
    const which = `from revision ${base.revision} (${base.version}) of ${base.channel}`;
    told.push(
      typeof made === "string"
        ? `no delta ${which}: ${made}`
        : `delta ${which}: ${made} bytes where the bundle has ${bytes.length}`,
    );
  }
  return told;
}

interface Next {
  readonly tar: Bytes;
  readonly tarSha256: string;
  /** The bundle's own. */
  readonly bytes: Bytes;
}

/** How many bytes the delta has. Throws Failure where there is none. */
async function putDelta(api: Api, policy: string, base: PolicyRevision, next: Next): Promise<number> {
  const before = await api.publishedPolicy(policy, base.bundle_sha256, base.bundle_bytes);
  if (digestOf(before) !== base.bundle_sha256)
    throw new Failure("verification_failed", "the bundle that came has another digest than its revision");
  const delta = await makeDelta(await tarOf(before, base.tar_sha256), next.tar);
  if (delta === null || !isWorthIt(delta.length, next.bytes.length))
    throw new Failure("failure", "it would be more than half of the bundle");
  const kept = await api.putPolicyDelta(policy, { from: base.tar_sha256, to: next.tarSha256 }, delta, digestOf(delta));
  return kept.bytes;
}

async function revisionsOf(api: Api, policy: string): Promise<readonly PolicyRevision[]> {
  try {
    return (await api.policy(policy)).revisions;
  } catch (error) {
    if (error instanceof ApiProblem && error.status === 404) return [];
    throw error;
  }
}

async function tarOf(bundle: Bytes, sha256: string): Promise<Bytes> {
  const tar = await tarInside(bundle, deltaTarBytesMax, edgeTools);
  if (!tar.ok) throw new Failure("verification_failed", tar.reason);
  if (tar.sha256 !== sha256)
    throw new Failure("verification_failed", "the tar inside has another digest than was signed");
  return tar.bytes;
}

/** What `work` comes to, or why it does not; an interrupted call goes no further. */
async function optional<T>(work: () => Promise<T>): Promise<T | string> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof Failure && error.exit !== "interrupted") return error.message;
    throw error;
  }
}

const digestOf = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
