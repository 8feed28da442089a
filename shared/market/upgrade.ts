// An upgrade, planned: which installs move, to what, and what becomes of the rollout. Pure; called by POST
// /api/market/upgrades and by installs that meet a rollout.

import type { EventAttributes } from "../contract/events.ts";
import type { InstallMove, Rollout, UpgradeResult } from "../contract/http-installs.ts";
import type { Channel } from "../contract/names.ts";
import { gatePlan, type BeforeRollout } from "./gate.ts";
import { lastGood, type Placing } from "./placement.ts";
import {
  inCohort,
  moved,
  refOf,
  type Move,
  type PackageState,
  type PlacedInstall,
  type ReleaseRef,
  type RolloutWrite,
  type RunningRollout,
} from "./package-state.ts";

export interface UpgradeAsked {
  readonly channel: Channel;
  readonly target: ReleaseRef;
  readonly cohort_percent: number;
  readonly reason: string;
  readonly started_by: string;
  /** For a rollout that has none yet. */
  readonly rollout_id: string;
  /** RFC 3339. */
  readonly at: string;
  /** For the last good releases that others go to. */
  readonly placing: Placing;
  /** What the cohort's installs and the others did before. */
  before(cohort: ReadonlySet<string>): BeforeRollout;
}

export interface UpgradePlan {
  readonly moves: readonly Move[];
  readonly rollouts: readonly RolloutWrite[];
  readonly good: readonly { readonly channel: Channel; readonly release_id: string }[];
  /** What the log is told of rollouts, in order. */
  readonly told: readonly EventAttributes<"mc.rollout.changed">[];
  readonly result: UpgradeResult;
  /** False: everything is as it was asked for already, and there is nothing to write. */
  readonly changes: boolean;
}

/** Every install of the cohort is on a newer release: an upgrade leads on, never back. */
export function isAllNewer(state: PackageState, { target, cohort_percent: percent }: UpgradeAsked): boolean {
  const cohort = state.installs.filter((install) => !install.pinned && inCohort(install, percent));
  return cohort.length > 0 && cohort.every((install) => staysNewer(state, install, target));
}

const staysNewer = ({ rollout }: PackageState, install: PlacedInstall, target: ReleaseRef): boolean =>
  install.version_order > target.version_order && install.release_id !== rollout?.release_id;

export function planUpgrade(state: PackageState, asked: UpgradeAsked): UpgradePlan {
  const running = state.rollout;
  const same = running !== null && running.release_id === asked.target.release_id && running.channel === asked.channel;
  if (same && running.cohort_percent >= asked.cohort_percent) return nothing(state, running);

  const rolloutId = same ? running.id : asked.rollout_id;
  const superseded = running !== null && !same ? running : null;
  const moves = state.installs.flatMap((install) => {
    const move = moveOf(state, asked, install, rolloutId, superseded);
    return move === null ? [] : [move];
  });
  const row = rolloutRow(state, asked, same ? running : null, rolloutId);
  const movedToTarget = moves.filter(({ cause }) => cause === "upgrade").length;
  const told: EventAttributes<"mc.rollout.changed">[] = [];
  if (superseded !== null)
    told.push({ ...namedOf(superseded), moved_count: 0, outcome: "superseded", rule: "superseded" });
  if (!same) told.push({ ...namedOf(row), moved_count: movedToTarget, outcome: "started", rule: "operator" });
  else if (row.state === "running") {
    told.push({ ...namedOf(row), moved_count: movedToTarget, outcome: "widened", rule: "operator" });
  }
  if (row.state === "completed") {
    told.push({ ...namedOf(row), moved_count: same ? movedToTarget : 0, outcome: "completed", rule: "operator" });
  }
  return {
    moves,
    rollouts: [
      ...(superseded === null ? [] : [{ row: ended(superseded, "superseded", "superseded", asked.at), is_new: false }]),
      { row, is_new: !same },
    ],
    good: row.state === "completed" ? [{ channel: asked.channel, release_id: asked.target.release_id }] : [],
    told,
    result: resultOf(state, row, moves),
    changes: true,
  };
}

/** Where one install goes; null: it stays. */
function moveOf(
  state: PackageState,
  asked: UpgradeAsked,
  install: PlacedInstall,
  rolloutId: string,
  superseded: RunningRollout | null,
): Move | null {
  if (install.pinned) return null;
  if (inCohort(install, asked.cohort_percent)) {
    if (install.release_id === asked.target.release_id && install.channel === asked.channel) return null;
    if (staysNewer(state, install, asked.target)) return null;
    const row = moved(install, asked.target, asked.channel, false, asked.at);
    return { row, from: refOf(install), cause: "upgrade", rollout_id: rolloutId };
  }
  // On the release of a rollout that this one takes the place of: back to the last good one, be it older.
  const stranded = superseded !== null && install.release_id === superseded.release_id;
  const good = lastGood(state, install.channel, asked.placing, asked.target.release_id);
  if (good === null || good.release_id === install.release_id) return null;
  if (!stranded && good.version_order <= install.version_order) return null;
  const row = moved(install, good, install.channel, false, asked.at);
  return { row, from: refOf(install), cause: "last_good", rollout_id: null };
}

function rolloutRow(
  state: PackageState,
  asked: UpgradeAsked,
  running: RunningRollout | null,
  id: string,
): RunningRollout {
  const cohort = state.installs.filter((install) => !install.pinned && inCohort(install, asked.cohort_percent));
  const plan = gatePlan(asked.before(new Set(cohort.map((install) => install.id))));
  const complete = asked.cohort_percent === 100;
  return {
    id,
    package: state.package,
    channel: asked.channel,
    version: asked.target.version,
    release_id: asked.target.release_id,
    artifact_sha256: asked.target.artifact_sha256,
    cohort_percent: asked.cohort_percent,
    state: complete ? "completed" : "running",
    rule: complete ? "cohort_complete" : null,
    reason: running?.reason ?? asked.reason,
    started_by: running?.started_by ?? asked.started_by,
    started_at: running?.started_at ?? asked.at,
    changed_at: asked.at,
    ended_at: complete ? asked.at : null,
    gate: running?.gate ?? null,
    // A wider cohort is a new comparison: what was counted for the narrower one counts no more.
    gate_since: asked.at,
    ...plan,
  };
}

export const namedOf = (rollout: RunningRollout) => ({
  rollout_id: rollout.id,
  package: rollout.package,
  version: rollout.version,
  channel: rollout.channel,
  release_sha256: rollout.artifact_sha256,
  cohort_percent: rollout.cohort_percent,
});

export const ended = (
  rollout: RunningRollout,
  state: "aborted" | "superseded",
  rule: string,
  at: string,
): RunningRollout => ({ ...rollout, state, rule, changed_at: at, ended_at: at });

export const shownMove = ({ row, from, cause }: Move): InstallMove => ({
  install_id: row.id,
  name: row.name,
  from_version: from?.version ?? null,
  to_version: row.version,
  cause,
});

/** A rollout without what only its gate needs. */
export function shownRollout(row: RunningRollout): Rollout {
  const { gate_since: _since, old_runs_per_block: _blocks, expected_new_share_ppm: _share, ...rest } = row;
  const { expected_share_of: _of, ...shown } = rest;
  return shown;
}

function resultOf(state: PackageState, rollout: RunningRollout, moves: readonly Move[]): UpgradeResult {
  const free = state.installs.filter((install) => !install.pinned);
  const smallest = free.reduce((least, { bucket }) => Math.min(least, bucket), Number.POSITIVE_INFINITY);
  return {
    rollout: shownRollout(rollout),
    moves: moves.map(shownMove),
    installs: state.installs.length,
    in_cohort: free.filter((install) => inCohort(install, rollout.cohort_percent)).length,
    pinned: state.installs.length - free.length,
    smallest_cohort_percent: free.length === 0 ? null : Math.floor(smallest / 100) + 1,
  };
}

const nothing = (state: PackageState, running: RunningRollout): UpgradePlan => ({
  moves: [],
  rollouts: [],
  good: [],
  told: [],
  result: resultOf(state, running, []),
  changes: false,
});
