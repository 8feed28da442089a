// A rollback, planned: what is taken back, each install to a release that is good for it, pinned there, and what was taken
// back barred. Pure; called by POST /api/market/rollbacks and by the health gate when it aborts.

import type { EventAttributes } from "../contract/events.ts";
import type { RollbackResult, Rollout } from "../contract/http-installs.ts";
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
  type ReleaseRef,
  type RolloutWrite,
  type RunningRollout,
} from "./package-state.ts";
import { ended, namedOf, shownMove } from "./upgrade.ts";

/** What is asked for: one release, one version for all, or one install. */
export type RollbackScope =
  /** Every install that is on the release goes back. It is barred, also where no install can. */
  | { readonly kind: "release"; readonly release: Pick<ReleaseRef, "release_id" | "version" | "artifact_sha256"> }
  /** Every install goes to that version. What they leave is barred. */
  | { readonly kind: "version"; readonly version: string }
  /** One install goes back, or to that version. What it leaves is barred where it was the last one on it. */
  | { readonly kind: "install"; readonly name: string; readonly version: string | null };

export interface RollbackAsked {
  readonly scope: RollbackScope;
  readonly rule: "rollback" | "health_gate";
  readonly reason: string;
  /** RFC 3339. */
  readonly at: string;
  /** Whether a release may be gone back to: its signatures verify, and its artifact is there. */
  usable(release: ReleaseRef): boolean;
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
  /** The channel that the counters name: what was taken back was followed on it. */
  readonly channel: Channel;
  readonly result: RollbackResult;
  /** False: nothing moves, and nothing is ended or barred. */
  readonly changes: boolean;
}

/**
 * What a rollback takes back where nobody says what: the release of the rollout that runs; else of the last rollout whose
 * release installs are on; else the newest release that they are on. So it is one release, and none that others go back to.
 */
export function releaseToTakeBack(
  state: PackageState,
  rollouts: readonly Pick<Rollout, "release_id" | "started_at">[],
): ReleaseRef | RunningRollout | null {
  if (state.rollout !== null) return state.rollout;
  const on = new Map(state.installs.map((install) => [install.release_id, refOf(install)] as const));
  const last = rollouts
    .filter(({ release_id: id }) => on.has(id))
    .toSorted((left, right) => (left.started_at < right.started_at ? 1 : -1))[0];
  if (last !== undefined) return on.get(last.release_id)!;
  return [...on.values()].toSorted((left, right) => (left.version_order < right.version_order ? 1 : -1))[0] ?? null;
}

/** Installs that are to go back. */
export function installsIn(state: PackageState, scope: RollbackScope): readonly PlacedInstall[] {
  if (scope.kind === "version") return state.installs;
  return state.installs.filter((install) =>
    scope.kind === "release" ? install.release_id === scope.release.release_id : install.name === scope.name,
  );
}

type Target = ReleaseRef & { readonly channel: Channel };

/**
 * Where an install could go back to, the best first: a version that was asked for, if it had it; else what it had before, the
 * newest first, and behind that the last good releases of its channel and of stable. What is barred, or tried by the
 * running rollout, is not among them; what was yanked, or superseded before its rollout was complete, only for the gate,
 * as the last resort. By hand it goes back, never on: to a newer one that was left behind, a version says so.
 */
export function candidates(
  state: PackageState,
  install: PlacedInstall,
  earlier: readonly EarlierRelease[],
  { scope, rule }: Pick<RollbackAsked, "scope" | "rule">,
): readonly Target[] {
  const wanted = scope.kind === "release" ? null : scope.version;
  const had = earlier.filter((release) => mayBe(state, install, release));
  if (wanted !== null) return had.filter(({ version }) => version === wanted);
  const back = (release: ReleaseRef): boolean =>
    rule === "health_gate" || release.version_order < install.version_order;
  const sound = had.filter((release) => release.proven && !release.yanked && back(release));
  const good = [state.good.get(install.channel), state.good.get("stable")]
    .filter((release) => release !== undefined)
    .filter((release) => !release.yanked && mayBe(state, install, release) && back(release))
    .map((release) => ({ ...release, channel: install.channel }));
  const lastResort = rule === "health_gate" ? had.filter((release) => !sound.includes(release)) : [];
  return [...sound, ...good, ...lastResort];
}

const mayBe = (state: PackageState, install: PlacedInstall, release: ReleaseRef): boolean =>
  release.release_id !== install.release_id &&
  release.release_id !== state.rollout?.release_id &&
  !isBarred(state, release.artifact_sha256);

export function planRollback(
  state: PackageState,
  earlierOf: ReadonlyMap<string, readonly EarlierRelease[]>,
  asked: RollbackAsked,
): RollbackPlan {
  const moves: Move[] = [];
  const unmoved: { name: string; why: string }[] = [];
  const installs = installsIn(state, asked.scope);
  for (const install of installs) {
    const possible = candidates(state, install, earlierOf.get(install.id) ?? [], asked);
    const to = possible.find((release) => asked.usable(release));
    if (to === undefined) {
      unmoved.push({ name: install.name, why: whyNot(state, install, asked, possible.length) });
      continue;
    }
    const row = moved(install, to, to.channel, true, asked.at);
    moves.push({ row, from: refOf(install), cause: asked.rule, rollout_id: state.rollout?.id ?? null });
  }
  const left = leftBehind(state, asked.scope, moves);
  const bars = left
    .filter((release) => !isBarred(state, release.artifact_sha256))
    .map(({ version, artifact_sha256 }) => ({ version, artifact_sha256, rule: asked.rule, reason: asked.reason }));
  const rollout = endsRollout(state, asked.scope, left, moves.length) ? state.rollout : null;
  return {
    moves,
    rollouts: rollout === null ? [] : [{ row: ended(rollout, "aborted", asked.rule, asked.at), is_new: false }],
    good: repairedGood(state, new Set(left.map(({ artifact_sha256: digest }) => digest)), moves),
    bars,
    told: rollout === null ? [] : [toldOf(rollout, moves.length, asked)],
    channel: state.rollout?.channel ?? installs[0]?.channel ?? "stable",
    result: {
      package: state.package,
      moves: moves.map(shownMove),
      unmoved,
      barred: bars.map(({ version, artifact_sha256 }) => ({ version, artifact_sha256 })),
      rollout_aborted: rollout?.id ?? null,
    },
    changes: moves.length > 0 || rollout !== null,
  };
}

/** The releases that this rollback says are bad. */
function leftBehind(
  state: PackageState,
  scope: RollbackScope,
  moves: readonly Move[],
): Pick<ReleaseRef, "release_id" | "version" | "artifact_sha256">[] {
  if (scope.kind === "release") return moves.length > 0 || state.rollout !== null ? [scope.release] : [];
  const left = new Map(moves.map(({ from }) => [from!.release_id, from!] as const));
  if (scope.kind === "version") return [...left.values()];
  // One host's trouble need not be the release's: it is barred once nobody is on it any more.
  const gone = new Set(moves.map(({ row }) => row.id));
  return [...left.values()].filter(
    (release) => !state.installs.some(({ id, release_id: on }) => on === release.release_id && !gone.has(id)),
  );
}

/** A rollback of the package ends what runs; that of one install only where it was the last one of the cohort. */
function endsRollout(
  { rollout }: PackageState,
  scope: RollbackScope,
  left: readonly Pick<ReleaseRef, "release_id">[],
  movedCount: number,
): boolean {
  if (rollout === null) return false;
  if (scope.kind === "release") return scope.release.release_id === rollout.release_id;
  if (scope.kind === "version") return movedCount > 0;
  return left.some(({ release_id: id }) => id === rollout.release_id);
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

/** A channel whose last good release is barred now has what its followers went back to, or else what others did. */
function repairedGood(
  state: PackageState,
  barredDigests: ReadonlySet<string>,
  moves: readonly Move[],
): RollbackPlan["good"] {
  const sound = moves.filter(({ row }) => !barredDigests.has(row.artifact_sha256));
  const [first] = sound;
  if (first === undefined) return [];
  return [...state.good]
    .filter(([, release]) => barredDigests.has(release.artifact_sha256))
    .map(([channel]) => ({
      channel,
      release_id: (sound.find((move) => move.row.channel === channel) ?? first).row.release_id,
    }));
}

function whyNot(state: PackageState, install: PlacedInstall, { scope }: RollbackAsked, possible: number): string {
  if (possible > 0) return "the releases that it had before do not verify, or their artifacts are gone";
  const wanted = scope.kind === "release" ? null : scope.version;
  if (wanted === null) return "it had no older release that is good and not barred; a version may be named";
  if (wanted === install.version) return `it is on ${wanted} already`;
  if (wanted === state.rollout?.version) return `${wanted} is what the rollout tries`;
  return `it never had ${wanted}, or ${wanted} is barred`;
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
      { labels: { channel: plan.channel, outcome: "rolled_back" }, by: 1 },
      ...plan.told.map(({ channel, outcome }) => ({ labels: { channel, outcome }, by: 1 })),
    ],
  };
}
