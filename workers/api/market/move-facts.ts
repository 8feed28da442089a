// What installs and upgrades are decided on, gathered once for the routes and for explanations.

import type { Install } from "../../../shared/contract/http-installs.ts";
import type { Release } from "../../../shared/contract/http-market.ts";
import type { Channel } from "../../../shared/contract/names.ts";
import { readPointers } from "../../../shared/market/channel-store.ts";
import type { PackageState } from "../../../shared/market/package-state.ts";
import { readPackage } from "../../../shared/market/package-state-store.ts";
import * as store from "../../../shared/market/release-store.ts";
import { versionOrder } from "../../../shared/market/version-order.ts";
import type { ActionFacts } from "../../../shared/policy/actions.ts";
import type { ChannelPointer } from "../../../shared/contract/http-market.ts";
import type { Caller } from "../../../shared/tenancy/caller.ts";
import type { Parts } from "../parts.ts";
import { noEntitlements } from "./refusals.ts";
import { pointedRelease } from "./release-fact.ts";

export interface MoveFacts {
  readonly facts: Omit<ActionFacts["install.write"], "install">;
  readonly state: PackageState;
  /** The release that the channel's signed pointer names, or null. */
  readonly release: Release | null;
  readonly pointer: ChannelPointer | null;
  readonly entitlement_version: number;
}

export async function moveFacts(
  { parts, caller }: { readonly parts: Parts; readonly caller: Caller },
  name: string,
  channel: Channel,
): Promise<MoveFacts> {
  const { database } = parts;
  const tenantId = caller.tenant_id;
  const [checked, pointers, state] = await Promise.all([
    parts.entitlements(tenantId).check(name),
    readPointers(database, tenantId, name),
    readPackage(database, tenantId, name),
  ]);
  if (checked.state === "unavailable") throw noEntitlements();
  const pointer = pointers.find((one) => one.channel === channel) ?? null;
  const known = pointer === null ? null : await store.readReleaseById(database, tenantId, pointer.release_id);
  const release = known?.release ?? null;
  const { entitlement, flags, version } = checked;
  const published = () => store.listPublished(database, tenantId, name);
  const range = entitlement?.version_range ?? null;
  const pointed = release === null ? null : await pointedRelease(release, state, range, published);
  return {
    facts: {
      package: name,
      channel,
      flags,
      entitlement,
      release: pointed?.fact ?? null,
      in_range: pointed?.in_range ?? true,
      frozen: state.frozen,
    },
    state,
    release,
    pointer,
    entitlement_version: version,
  };
}

/** Facts of an install: which one it would move. */
export function installFacts(found: MoveFacts, name: string): ActionFacts["install.write"] {
  const before: Install | undefined = found.state.installs.find((install) => install.name === name);
  return { ...found.facts, install: before === undefined ? null : { name, pinned: before.pinned } };
}

/** Facts of an upgrade: how many installs there are, and whether the gate of the rollout that it would widen holds. */
export function upgradeFacts(
  found: MoveFacts,
  {
    cohort_percent: percent,
    despite_gate: despite,
  }: { readonly cohort_percent: number; readonly despite_gate: boolean },
): ActionFacts["upgrade.start"] {
  const { state, release } = found;
  const widens =
    state.rollout !== null &&
    // Whichever channel leads to it: it is the release that is tried.
    state.rollout.release_id === release?.id &&
    state.rollout.cohort_percent < percent;
  return {
    ...found.facts,
    installs: {
      count: state.installs.length,
      pinned: state.installs.filter((install) => install.pinned).length,
    },
    // No report yet is no data yet.
    gate_holds: widens && !despite && state.rollout?.gate?.state !== "continue",
    cohort_percent: percent,
  };
}

export const refOfRelease = (release: Release) => ({
  release_id: release.id,
  version: release.version,
  version_order: versionOrder(release.version),
  artifact_sha256: release.artifact_sha256,
  units: release.units,
});
