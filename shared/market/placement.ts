// Where an install belongs that a rollout does not try its release on: the last good release for it. Pure; used by installs,
// upgrades and rollbacks.

import type { EntitlementFact } from "../policy/actions.ts";
import type { FlagFacts } from "../contract/http-flags.ts";
import type { Channel } from "../contract/names.ts";
import { inCohort, isBarred, type PackageState, type PlacedInstall, type ReleaseRef } from "./package-state.ts";
import { inRange } from "./version-range.ts";

/** What holds for every release that an install is placed on, whichever way it came to be chosen. */
export interface Placing {
  /** The channels that installs may be moved along. */
  readonly channels: ReadonlySet<Channel>;
  inRange(version: string): boolean;
  /** Its signatures verify, and its artifact is there. */
  usable(release: ReleaseRef): boolean;
}

/** What flags and entitlement leave of it; `usable` holds the ids of releases that were looked at. */
export function placingOf(
  { flags, entitlement }: { readonly flags: FlagFacts; readonly entitlement: EntitlementFact | null },
  usable: ReadonlySet<string>,
): Placing {
  const asked = flags.market_entitlements;
  const canary = flags.market_channels && (!asked || entitlement?.channel === "canary");
  const range = asked ? (entitlement?.version_range ?? null) : null;
  return {
    channels: new Set<Channel>(canary ? ["stable", "canary"] : ["stable"]),
    inRange: (version) => inRange(version, range),
    usable: ({ release_id: id }) => usable.has(id),
  };
}

/**
 * The last good release for an install that follows `channel`: that channel's, else that of stable. Never `tried`, the release
 * that a rollout tries: nobody knows whether it is good. Null where there is none that may be placed.
 */
export function lastGood(state: PackageState, channel: Channel, placing: Placing, tried: string): ReleaseRef | null {
  for (const one of new Set<Channel>([channel, "stable"])) {
    const good = placing.channels.has(one) ? state.good.get(one) : undefined;
    if (good === undefined || good.release_id === tried || good.yanked || isBarred(state, good.artifact_sha256))
      continue;
    if (placing.inRange(good.version) && placing.usable(good)) return good;
  }
  return null;
}

/** Whether the rollout that runs keeps its release from an install with this bucket, whatever channel points to it. */
export const isKeptFrom = ({ rollout }: PackageState, target: ReleaseRef, bucket: number): boolean =>
  rollout !== null && rollout.release_id === target.release_id && !inCohort({ bucket }, rollout.cohort_percent);

/**
 * Where an install goes that follows `channel` to `target` and is not in the cohort of the rollout that tries it: the last
 * good release. One that is there already stays where it is rather than going back. Null: nothing is known to be good.
 */
export function placeOutside(
  state: PackageState,
  before: PlacedInstall | null,
  channel: Channel,
  target: ReleaseRef,
  placing: Placing,
): ReleaseRef | null {
  const good = lastGood(state, channel, placing, target.release_id);
  const stays =
    before !== null &&
    before.release_id !== target.release_id &&
    (good === null || good.version_order <= before.version_order);
  return stays ? before : good;
}
