// What must hold of a release before an install goes to it: both signatures over what its row says, and its artifact in the
// bucket. The signer is not asked: its public keys are pinned. Used by installs, upgrades and rollbacks.

import type { Release } from "../../../shared/contract/http-market.ts";
import { Problem } from "../../../shared/contract/problems.ts";
import { checkRelease } from "../../../shared/signing/release.ts";
import { errorName } from "../../../shared/outbox/drain.ts";
import type { Parts } from "../parts.ts";
import { artifactKey } from "./artifacts.ts";

/** The bucket may fail once: so many times it is asked, with these waits between. */
const waitsMs = [50, 200];

/** A reason why the release may not be used, or null. Throws Problem `bucket_unavailable` where that cannot be known now. */
export async function whyUnusable(parts: Parts, release: Release): Promise<string | null> {
  if (release.marketplace_bundle === null) return "it was never countersigned";
  const verified = await checkRelease(
    {
      publisher: release.publisher_bundle,
      marketplace: release.marketplace_bundle,
      publisherSpki: release.publisher_key,
    },
    await parts.releaseKeys(),
  );
  if (!verified.ok) return verified.reason;
  const { manifest, artifact_sha256: digest } = verified.release;
  if (manifest.name !== release.package || manifest.version !== release.version || digest !== release.artifact_sha256) {
    return "what was signed is another release";
  }
  return (await isThere(parts, digest)) ? null : "the artifact that was signed is not in the marketplace";
}

async function isThere(parts: Parts, sha256: string): Promise<boolean> {
  for (let attempt = 0; ; attempt += 1) {
    try {
      return (await parts.artifacts.head(artifactKey(sha256))) !== null;
    } catch (error) {
      const waitMs = waitsMs[attempt];
      parts.log("warn", "the bucket did not answer", { attempt, error: errorName(error) });
      if (waitMs === undefined) {
        throw new Problem("bucket_unavailable", "Whether the artifact is there cannot be seen now.", {
          retry_after_s: 1,
        });
      }
      await new Promise((resolve) => setTimeout(resolve, waitMs));
    }
  }
}
