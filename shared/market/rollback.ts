// A rollback, planned: each install back to a release that it had before, pinned there, and what it left barred. Pure; called
// by POST /api/market/rollbacks and by the health gate when it aborts.

import type { EventAttributes } from "../contract/events.ts";
import type { RollbackResult } from "../contract/http-installs.ts";
import type { Channel } from "../contract/names.ts";
import { newEvent, type EventContext } from "../outbox/outbox.ts";
import { installTold } from "./install-told.ts";
import type { EarlierRelease } from "./package-state-store.ts";
import {
  isBarred,
  moved,
  refOf,
  type Move,
  type PackageChange,
  type PackageState,
  type PlacedInstall,
  type RolloutWrite,
  type RunningRollout,
} from "./package-state.ts";
import { ended, namedOf, shownMove } from "./upgrade.ts";

export interface RollbackAsked {
  /** The installs that are to go back. */
  readonly installs: readonly PlacedInstall[];
  /** A version that they had before; null: the last good one of each. */
  readonly to_version: string | null;
  readonly rule: "rollback" | "health_gate";
  readonly reason: string;
  /** RFC 3339. */
  readonly at: string;
  /** Whether a release may be gone back to: its signatures verify, and its artifact is there. */
  usable(release: EarlierRelease): boolean;
  /** The gate's evidence, where it is the gate. */
  readonly log10_e_milli?: number;
}

export interface RollbackPlan {
  readonly moves: readonly Move[];
  readonly rollouts: readonly RolloutWrite[];
  readonly good: readonly { readonly channel: Channel; readonly release_id: string }[];
  readonly bars: readonly {
    readonly version: string;
    readonly artifact_sha256: string;
    readonly rule: "rollback" | "health_gate";
    readonly reason: string;
  }[];
  readonly told: readonly EventAttributes<"mc.rollout.changed">[];
  readonly result: RollbackResult;
}

/** Where an install could go back to, the newest first. The one that it is on, and barred ones, are not among them. */
export function candidates(
  state: PackageState,
  install: PlacedInstall,
  earlier: readonly EarlierRelease[],
  { to_version: wanted, rule }: Pick<RollbackAsked, "to_version" | "rule">,
): EarlierRelease[] {
  return earlier.filter(
    (release) =>
      release.release_id !== install.release_id &&
      !isBarred(state, release.artifact_sha256) &&
      (wanted === null
        ? // By hand it goes back, never on: to a newer one that was left behind, `to_version` says so.
          rule === "health_gate" || release.version_order < install.version_order
        : release.version === wanted),
  );
}

export function planRollback(
  state: PackageState,
  earlierOf: ReadonlyMap<string, readonly EarlierRelease[]>,
  asked: RollbackAsked,
): RollbackPlan {
  const moves: Move[] = [];
  const unmoved: { name: string; why: string }[] = [];
  for (const install of asked.installs) {
    const possible = candidates(state, install, earlierOf.get(install.id) ?? [], asked);
    const to = possible.find((release) => asked.usable(release));
    if (to === undefined) {
      unmoved.push({ name: install.name, why: whyNot(install, asked, possible.length) });
      continue;
    }
    const row = moved(install, to, to.channel, true, asked.at);
    moves.push({ row, from: refOf(install), cause: asked.rule, rollout_id: state.rollout?.id ?? null });
  }
  const left = new Map(moves.map(({ from }) => [from!.artifact_sha256, from!] as const));
  const bars = [...left.values()]
    .filter((release) => !isBarred(state, release.artifact_sha256))
    .map(({ version, artifact_sha256 }) => ({
      version,
      artifact_sha256,
      rule: asked.rule,
      reason: asked.reason,
    }));
  const rollout = state.rollout !== null && moves.length > 0 ? state.rollout : null;
  return {
    moves,
    rollouts: rollout === null ? [] : [{ row: ended(rollout, "aborted", asked.rule, asked.at), is_new: false }],
    good: repairedGood(state, left, moves),
    bars,
    told: rollout === null ? [] : [toldOf(rollout, moves.length, asked)],
    result: {
      package: state.package,
      moves: moves.map(shownMove),
      unmoved,
      barred: bars.map(({ version, artifact_sha256 }) => ({ version, artifact_sha256 })),
      rollout_aborted: rollout?.id ?? null,
    },
  };
}

const toldOf = (
  rollout: RunningRollout,
  movedCount: number,
  { rule, log10_e_milli: evidence }: RollbackAsked,
): EventAttributes<"mc.rollout.changed"> => ({
  ...namedOf(rollout),
  moved_count: movedCount,
  outcome: "aborted",
  rule,
  ...(evidence === undefined ? {} : { log10_e_milli: evidence }),
});

/** A channel whose last good release was just left behind has what its followers went back to, or else what others did. */
function repairedGood(
  state: PackageState,
  left: ReadonlyMap<string, unknown>,
  moves: readonly Move[],
): RollbackPlan["good"] {
  const [first] = moves;
  if (first === undefined) return [];
  return [...state.good]
    .filter(([, release]) => left.has(release.artifact_sha256))
    .map(([channel]) => ({
      channel,
      release_id: (moves.find((move) => move.row.channel === channel) ?? first).row.release_id,
    }));
}

function whyNot(install: PlacedInstall, { to_version: wanted }: RollbackAsked, possible: number): string {
  if (possible > 0) return "the releases that it had before do not verify, or their artifacts are gone";
  if (wanted === install.version) return `it is on ${wanted} already`;
  if (wanted !== null) return `it never had ${wanted}, or ${wanted} is barred`;
  return "it had no older release that is not barred";
}

/** The whole change of a rollback: also of one that the health gate made. */
export function rollbackChange(
  context: EventContext,
  state: PackageState,
  plan: RollbackPlan,
  rule: "operator" | "health_gate",
  toVersion: string | null,
): PackageChange {
  return {
    package: state.package,
    from_version: state.version,
    moves: plan.moves,
    rollouts: plan.rollouts,
    good: plan.good,
    bars: plan.bars,
    events: [
      newEvent(context, "mc.package.rolled_back", {
        package: state.package,
        version: toVersion,
        moved_count: plan.moves.length,
        barred_count: plan.bars.length,
        outcome: "rolled_back",
        rule,
      }),
      ...plan.told.map((told) => newEvent(context, "mc.rollout.changed", told)),
      ...plan.moves.map((move) => newEvent(context, "mc.install.changed", installTold(move))),
      ...plan.bars.map((bar) =>
        newEvent(context, "mc.release.barred", {
          package: state.package,
          version: bar.version,
          release_sha256: bar.artifact_sha256,
          outcome: "barred",
          rule: bar.rule,
        }),
      ),
    ],
    metrics: [
      { labels: { channel: plan.moves[0]!.row.channel, outcome: "rolled_back" }, by: 1 },
      ...plan.told.map(({ channel, outcome }) => ({ labels: { channel, outcome }, by: 1 })),
    ],
  };
}
