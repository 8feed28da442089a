// What must hold of a release before an install goes to it: both signatures over what its row says, and its artifact in the
// bucket. The signer is not asked: its public keys are pinned. Used by installs, upgrades and rollbacks.

import type { Release } from "../../../shared/contract/http-market.ts";
import { Problem } from "../../../shared/contract/problems.ts";
import type { PackageState } from "../../../shared/market/package-state.ts";
import { readReleasesById } from "../../../shared/market/release-store.ts";
import { checkRelease } from "../../../shared/signing/release.ts";
import { errorName } from "../../../shared/outbox/drain.ts";
import type { Call } from "../door.ts";
import type { Parts } from "../parts.ts";
import { artifactKey } from "./artifacts.ts";

/** The bucket may fail once: so many times it is asked, with these waits between. */
const waitsMs = [50, 200];

export type ReleaseParts = Pick<Parts, "artifacts" | "releaseKeys" | "log">;

/** A reason why the release may not be used, or null. Throws Problem `bucket_unavailable` where that cannot be known now. */
export async function whyUnusable(parts: ReleaseParts, release: Release): Promise<string | null> {
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

/** Whether a release verifies and its artifact is there, by id; each is looked at once. */
export function usableOnce({ parts, caller }: Pick<Call, "parts" | "caller">): (id: string) => Promise<boolean> {
  const seen = new Map<string, Promise<boolean>>();
  async function look(id: string): Promise<boolean> {
    const release = (await readReleasesById(parts.database, caller.tenant_id, [id])).get(id);
    return release !== undefined && (await whyUnusable(parts, release)) === null;
  }
  return (id) => {
    const known = seen.get(id) ?? look(id);
    seen.set(id, known);
    return known;
  };
}

/** Of the last good releases, the ids of those whose signatures verify and whose artifact is there. */
export async function usableGood(
  { parts, caller }: Pick<Call, "parts" | "caller">,
  { good }: PackageState,
): Promise<ReadonlySet<string>> {
  const ids = new Set([...good.values()].map(({ release_id: id }) => id));
  const usable = new Set<string>();
  if (ids.size === 0) return usable;
  for (const [id, release] of await readReleasesById(parts.database, caller.tenant_id, [...ids])) {
    if ((await whyUnusable(parts, release)) === null) usable.add(id);
  }
  return usable;
}

/** Of these releases, those known to be unusable: for the gate, which waits for no bucket. */
export async function unusableReleases(
  parts: ReleaseParts & Pick<Parts, "database">,
  tenantId: string,
  ids: readonly string[],
): Promise<ReadonlySet<string>> {
  const found = await readReleasesById(parts.database, tenantId, ids);
  const unusable = new Set(ids.filter((id) => !found.has(id)));
  for (const [id, release] of found) {
    const why = await whyUnusable(parts, release).catch((error: unknown) => {
      if (error instanceof Problem && error.code === "bucket_unavailable") return null;
      throw error;
    });
    if (why !== null) unusable.add(id);
  }
  return unusable;
}

async function isThere(parts: ReleaseParts, sha256: string): Promise<boolean> {
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
