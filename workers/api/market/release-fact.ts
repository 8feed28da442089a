// The release that a channel points to, as installs, upgrades and runs of what is not installed are decided on it.

import type { Release } from "../../../shared/contract/http-market.ts";
import { isBarred, type PackageState } from "../../../shared/market/package-state.ts";
import type { PublishedVersion } from "../../../shared/market/release-store.ts";
import { inRange } from "../../../shared/market/version-range.ts";
import type { ReleaseFact } from "../../../shared/policy/actions.ts";

export interface PointedRelease {
  readonly fact: ReleaseFact;
  /** The release, or its alternative where it is yanked, is in the range; that one's units. */
  readonly in_range: boolean;
  readonly units: number;
}

/** `published`: the package's, the newest first; asked only where the release is yanked. */
export async function pointedRelease(
  release: Release,
  state: PackageState,
  range: string | null,
  published: () => Promise<readonly PublishedVersion[]>,
): Promise<PointedRelease> {
  const yanked = release.state === "yanked";
  const usable = yanked ? (await published()).filter((one) => !isBarred(state, one.artifact_sha256)) : [];
  const alternative = usable.find((one) => inRange(one.version, range)) ?? usable[0] ?? null;
  const target = alternative ?? release;
  return {
    fact: {
      version: release.version,
      state: yanked ? "yanked" : "published",
      barred: isBarred(state, release.artifact_sha256),
      alternative: alternative?.version ?? null,
    },
    in_range: inRange(target.version, range),
    units: target.units,
  };
}
