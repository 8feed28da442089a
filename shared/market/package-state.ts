// One package of one tenant, as of one moment: what every change of its installs is planned on. Read and written as a whole
// by package-state-store.ts, under one version that is compared and set.

import type { AuditEvent } from "../contract/events.ts";
import type { Install, InstallCause, Rollout } from "../contract/http-installs.ts";
import type { Channel } from "../contract/names.ts";
import type { GatePlan } from "./gate.ts";

/** A release, as far as an install knows it. */
export interface ReleaseRef {
  readonly release_id: string;
  readonly version: string;
  /** Byte order is precedence (version-order.ts). */
  readonly version_order: string;
  readonly artifact_sha256: string;
  readonly units: number;
}

export interface GoodRelease extends ReleaseRef {
  readonly yanked: boolean;
}

export interface PlacedInstall extends Install {
  readonly version_order: string;
}

export interface RunningRollout extends Rollout, GatePlan {
  readonly gate_since: string;
}

export interface OpenBar {
  readonly version: string;
  readonly artifact_sha256: string;
}

export interface PackageState {
  readonly package: string;
  /** 0: nothing was ever changed. */
  readonly version: number;
  readonly frozen: boolean;
  readonly installs: readonly PlacedInstall[];
  /** The last good release by channel. */
  readonly good: ReadonlyMap<Channel, GoodRelease>;
  readonly rollout: RunningRollout | null;
  readonly bars: readonly OpenBar[];
}

export const isBarred = (state: Pick<PackageState, "bars">, artifactSha256: string): boolean =>
  state.bars.some((bar) => bar.artifact_sha256 === artifactSha256);

/** An install's move to a release: its new row, and what the history says of it. */
export interface Move {
  readonly row: Install;
  readonly from: ReleaseRef | null;
  readonly cause: InstallCause;
  readonly rollout_id: string | null;
}

export interface RolloutWrite {
  readonly row: RunningRollout;
  readonly is_new: boolean;
}

/** Everything that one change of a package writes, in one transaction. */
export interface PackageChange {
  readonly package: string;
  readonly from_version: number;
  readonly moves?: readonly Move[];
  /** Pins without a move. */
  readonly pins?: readonly { readonly install_id: string; readonly pinned: boolean }[];
  readonly rollouts?: readonly RolloutWrite[];
  readonly good?: readonly { readonly channel: Channel; readonly release_id: string }[];
  readonly bars?: readonly {
    readonly version: string;
    readonly artifact_sha256: string;
    readonly rule: "health_gate" | "rollback" | "operator";
    readonly reason: string;
  }[];
  readonly lifts?: readonly { readonly artifact_sha256: string; readonly reason: string }[];
  readonly freeze?: { readonly frozen: boolean; readonly reason: string };
  readonly events: readonly AuditEvent[];
  readonly metrics?: readonly { readonly labels: Readonly<Record<string, string>>; readonly by: number }[];
}

/** 0 to 9999 from the install's id: its place in every cohort, for as long as it is installed. */
export function bucketOf(idDigest: Uint8Array): number {
  const [a, b, c, d] = idDigest;
  return (((a! << 24) | (b! << 16) | (c! << 8) | d!) >>> 0) % 10_000;
}

export const inCohort = (install: Pick<Install, "bucket">, percent: number): boolean => install.bucket < percent * 100;

/** The install's row as the wire has it. */
export function shownInstall(install: PlacedInstall): Install {
  const { version_order: _, ...row } = install;
  return row;
}

export const refOf = (install: PlacedInstall): ReleaseRef => ({
  release_id: install.release_id,
  version: install.version,
  version_order: install.version_order,
  artifact_sha256: install.artifact_sha256,
  units: install.units,
});

/** The install's row on another release. */
export const moved = (
  install: PlacedInstall,
  to: ReleaseRef,
  channel: Channel,
  pinned: boolean,
  changedAt: string,
): Install => ({
  ...shownInstall(install),
  version: to.version,
  artifact_sha256: to.artifact_sha256,
  units: to.units,
  release_id: to.release_id,
  channel,
  pinned,
  changed_at: changedAt,
});
