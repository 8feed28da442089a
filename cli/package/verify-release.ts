// Whether a release is the one that its publisher signed and the marketplace countersigned, and a downloaded artifact its
// bytes. Called by `maestro run` before a byte is unpacked, and by verify-moves.ts for the signatures alone.

import { sha256Hex } from "../../shared/contract/bytes.ts";
import { canonicalJson } from "../../shared/contract/events.ts";
import type { PublishedKeys } from "../../shared/contract/http-audit.ts";
import type { PackageManifest, Release } from "../../shared/contract/http-market.ts";
import { believedReleaseKeys } from "../../shared/signing/published.ts";
import { checkRelease, type SignedRelease } from "../../shared/signing/release.ts";
import { Failure } from "../failure.ts";
import { readPackage } from "./archive.ts";

export interface Pinned {
  readonly package: string;
  readonly version: string;
  readonly release_id: string;
  /** Digest of the artifact, as the execution names it. */
  readonly release_sha256: string;
}

/** Both signatures over one release; throws Failure `verification_failed` where one is missing or does not hold. */
export async function verifySignatures(release: Release, keys: PublishedKeys): Promise<SignedRelease> {
  if (release.marketplace_bundle === null) throw refuse("the marketplace has not countersigned it");
  const checked = await checkRelease(
    {
      publisher: release.publisher_bundle,
      marketplace: release.marketplace_bundle,
      publisherSpki: release.publisher_key,
    },
    believedReleaseKeys(keys.keys),
  );
  if (!checked.ok) throw refuse(checked.reason);
  return checked.release;
}

/**
 * Both signatures, the digest, and that the manifest inside is the signed one. Answers the signed manifest; throws
 * Failure `verification_failed` with the first thing that does not hold.
 */
export async function verifyRelease(
  pinned: Pinned,
  release: Release,
  keys: PublishedKeys,
  artifact: Uint8Array<ArrayBuffer>,
): Promise<PackageManifest> {
  const signed = await verifySignatures(release, keys);
  const { manifest, artifact_sha256, artifact_bytes } = signed;
  if (release.id !== pinned.release_id) throw refuse("the release that came is not the one of this execution");
  if (manifest.name !== pinned.package || manifest.version !== pinned.version) {
    throw refuse(`it is signed as ${manifest.name} ${manifest.version}`);
  }
  if (artifact_sha256 !== pinned.release_sha256)
    throw refuse("the signatures are over another artifact than the pinned one");
  if ((await sha256Hex(artifact)) !== artifact_sha256 || artifact.length !== artifact_bytes) {
    throw refuse("the artifact's bytes are not those that were signed");
  }
  const inside = await readPackage(artifact, manifest.limits.unpacked_bytes);
  if (canonicalJson(inside.manifest) !== canonicalJson(manifest)) {
    throw refuse("the maestro.json inside is not the manifest that was signed");
  }
  return manifest;
}

const refuse = (why: string): Failure =>
  new Failure("verification_failed", `The release is refused: ${why}`, { advice: "Nothing of it was run." });
