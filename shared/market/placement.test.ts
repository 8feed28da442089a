// What holds for every plan of an upgrade and of a rollback, whatever the package went through: random histories, made by
// the plans themselves.

import fastCheck from "fast-check";
import { describe, expect, test } from "vitest";
import type { Channel } from "../contract/names.ts";
import { lastGood, placeOutside, type Placing } from "./placement.ts";
import {
  inCohort,
  isBarred,
  type GoodRelease,
  type OpenBar,
  type PackageState,
  type PlacedInstall,
  type ReleaseRef,
  type RunningRollout,
} from "./package-state.ts";
import type { EarlierRelease } from "./package-state-store.ts";
import { planRollback, releaseToTakeBack, type RollbackPlan, type RollbackScope } from "./rollback.ts";
import { isAllNewer, planUpgrade, type UpgradeAsked, type UpgradePlan } from "./upgrade.ts";
import { versionOrder } from "./version-order.ts";

const runs = process.env["MAESTRO_DEEP"] === "1" ? 20_000 : 200;
const at = "2026-01-01T00:00:00.000Z";
const releases: readonly GoodRelease[] = ["1.0.0", "1.1.0", "1.2.0", "2.0.0"].map((version, index) => ({
  release_id: `rel_${index}`,
  version,
  version_order: versionOrder(version),
  artifact_sha256: String(index).repeat(64),
  units: 0,
  yanked: false,
}));
const byDigest = new Map(releases.map((release) => [release.artifact_sha256, release]));

/** A tenant's package, and what its installs went through. */
class World {
  state: PackageState = {
    package: "a/b",
    version: 1,
    frozen: false,
    installs: [],
    good: new Map(),
    rollout: null,
    bars: [],
  };
  readonly history = new Map<string, EarlierRelease[]>();
  readonly finished: RunningRollout[] = [];
  readonly gone = new Set<string>();
  readonly yanked = new Set<string>();

  readonly placing: Placing = {
    channels: new Set(["stable", "canary"]),
    inRange: () => true,
    usable: ({ release_id: id }) => !this.gone.has(id),
  };

  earlier(): ReadonlyMap<string, readonly EarlierRelease[]> {
    const unproven = (id: string): boolean => {
      const of = this.finished.filter((rollout) => rollout.release_id === id);
      return of.length > 0 && !of.some(({ state }) => state === "completed");
    };
    return new Map(
      [...this.history].map(([id, list]) => [
        id,
        list.map((one) => ({ ...one, proven: !unproven(one.release_id), yanked: this.yanked.has(one.release_id) })),
      ]),
    );
  }

  put(install: PlacedInstall): void {
    const { installs } = this.state;
    this.state = { ...this.state, installs: [...installs.filter(({ id }) => id !== install.id), install] };
    const { release_id, version, version_order, artifact_sha256, units, channel } = install;
    const one = { release_id, version, version_order, artifact_sha256, units, channel, proven: true, yanked: false };
    const list = this.history.get(install.id) ?? [];
    this.history.set(install.id, [one, ...list.filter((other) => other.release_id !== release_id)]);
  }

  apply(plan: UpgradePlan | RollbackPlan): void {
    for (const { row } of plan.moves)
      this.put({ ...row, version_order: byDigest.get(row.artifact_sha256)!.version_order });
    const good = new Map(this.state.good);
    for (const { channel, release_id: id } of plan.good) good.set(channel, this.good(id));
    let { rollout } = this.state;
    for (const { row } of plan.rollouts) {
      if (row.state === "running") rollout = row;
      else {
        this.finished.push(row);
        if (rollout?.id === row.id) rollout = null;
      }
    }
    const bars: readonly OpenBar[] = "bars" in plan ? [...this.state.bars, ...plan.bars] : this.state.bars;
    this.state = { ...this.state, good, rollout, bars };
  }

  good(id: string): GoodRelease {
    const release = releases.find(({ release_id: one }) => one === id)!;
    return { ...release, yanked: this.yanked.has(id) };
  }

  asked(release: ReleaseRef, channel: Channel, percent: number, id: string): UpgradeAsked {
    return {
      channel,
      target: release,
      cohort_percent: percent,
      reason: "",
      started_by: "pri",
      rollout_id: id,
      at,
      placing: this.placing,
      before: () => ({ cohort_runs: 0, other_runs: 0, cohort_installs: 1, other_installs: 1 }),
    };
  }
}

type Step =
  | {
      readonly do: "install";
      readonly host: number;
      readonly bucket: number;
      readonly to: number;
      readonly channel: Channel;
    }
  | { readonly do: "upgrade"; readonly to: number; readonly channel: Channel; readonly percent: number }
  | { readonly do: "rollback"; readonly kind: RollbackScope["kind"]; readonly host: number; readonly to: number }
  | { readonly do: "abort" | "unpin" | "lift" }
  | { readonly do: "lose"; readonly to: number }
  | { readonly do: "yank"; readonly to: number };

const to = fastCheck.nat({ max: releases.length - 1 });
const host = fastCheck.nat({ max: 4 });
const channel = fastCheck.constantFrom<Channel>("stable", "canary");
const step: fastCheck.Arbitrary<Step> = fastCheck.oneof(
  {
    weight: 4,
    arbitrary: fastCheck.record({
      do: fastCheck.constant("install" as const),
      host,
      bucket: fastCheck.nat({ max: 9_999 }),
      to,
      channel,
    }),
  },
  {
    weight: 4,
    arbitrary: fastCheck.record({
      do: fastCheck.constant("upgrade" as const),
      to,
      channel,
      percent: fastCheck.constantFrom(1, 30, 60, 100),
    }),
  },
  {
    weight: 3,
    arbitrary: fastCheck.record({
      do: fastCheck.constant("rollback" as const),
      kind: fastCheck.constantFrom("release" as const, "version" as const, "install" as const),
      host,
      to,
    }),
  },
  {
    weight: 2,
    arbitrary: fastCheck.record({ do: fastCheck.constantFrom("abort" as const, "unpin" as const, "lift" as const) }),
  },
  { weight: 1, arbitrary: fastCheck.record({ do: fastCheck.constantFrom("lose" as const, "yank" as const), to }) },
);

function take(world: World, one: Step, index: number): void {
  const { state } = world;
  if (one.do === "lose") world.gone.add(releases[one.to]!.release_id);
  else if (one.do === "yank") {
    world.yanked.add(releases[one.to]!.release_id);
    const good = new Map([...state.good].map(([name, { release_id: id }]) => [name, world.good(id)] as const));
    world.state = { ...state, good };
  } else if (one.do === "install") {
    const target = releases[one.to]!;
    if (isBarred(state, target.artifact_sha256)) return;
    const before = state.installs.find(({ id }) => id === `ins_${one.host}`) ?? null;
    if (before?.pinned === true) return;
    const bucket = before?.bucket ?? one.bucket;
    const kept = state.rollout?.release_id === target.release_id && !inCohort({ bucket }, state.rollout.cohort_percent);
    const place = kept ? placeOutside(state, before, one.channel, target, world.placing) : target;
    if (place === null) return;
    if (kept && place.release_id === target.release_id) throw new Error("it was kept from the release that is tried");
    world.put({
      id: `ins_${one.host}`,
      package: "a/b",
      name: `host-${one.host}`,
      version: place.version,
      version_order: place.version_order,
      channel: one.channel,
      artifact_sha256: place.artifact_sha256,
      units: 0,
      release_id: place.release_id,
      pinned: false,
      bucket,
      changed_at: at,
    });
    const tried = place.release_id === state.rollout?.release_id;
    if (!world.state.good.has(one.channel) && !tried) {
      world.state = {
        ...world.state,
        good: new Map([...world.state.good, [one.channel, world.good(place.release_id)]]),
      };
    }
  } else if (one.do === "upgrade") {
    const target = releases[one.to]!;
    const asked = world.asked(target, one.channel, one.percent, `rol_${index}`);
    if (state.installs.length === 0 || isBarred(state, target.artifact_sha256) || isAllNewer(state, asked)) return;
    const plan = planUpgrade(state, asked);
    checkUpgrade(world, asked, plan);
    world.apply(plan);
  } else if (one.do === "rollback") {
    const release = releaseToTakeBack(state, world.finished);
    if (release === null) return;
    const scopes: Record<RollbackScope["kind"], RollbackScope> = {
      release: { kind: "release", release },
      version: { kind: "version", version: releases[one.to]!.version },
      install: { kind: "install", name: `host-${one.host}`, version: null },
    };
    rollBack(world, scopes[one.kind], "rollback");
  } else if (one.do === "abort") {
    if (state.rollout !== null) rollBack(world, { kind: "release", release: state.rollout }, "health_gate");
  } else if (one.do === "unpin") {
    world.state = { ...state, installs: state.installs.map((install) => ({ ...install, pinned: false })) };
  } else if (one.do === "lift") world.state = { ...state, bars: [] };
}

function rollBack(world: World, scope: RollbackScope, rule: "rollback" | "health_gate"): void {
  const { state } = world;
  const plan = planRollback(state, world.earlier(), {
    scope,
    rule,
    reason: "",
    at,
    usable: (release) => world.placing.usable(release),
  });
  const now = new Set([...state.bars, ...plan.bars].map(({ artifact_sha256: digest }) => digest));
  for (const { row, from } of plan.moves) {
    expect(now.has(row.artifact_sha256)).toBe(false);
    expect(world.gone.has(row.release_id)).toBe(false);
    expect(row.release_id).not.toBe(state.rollout?.release_id);
    expect(row.pinned).toBe(true);
    if (scope.kind === "release") expect(from!.release_id).toBe(scope.release.release_id);
    if (rule === "rollback" && scope.kind !== "version") {
      expect(row.release_id).toSatisfy(
        (id: string) => byDigest.get(row.artifact_sha256)!.version_order < from!.version_order && !world.yanked.has(id),
      );
    }
  }
  world.apply(plan);
  const after = world.state;
  if (scope.kind === "release" && plan.changes) {
    expect(isBarred(after, scope.release.artifact_sha256)).toBe(true);
    expect(after.rollout).toBeNull();
    // Who had a sound release to go back to is not left on the one that is taken back.
    for (const install of after.installs.filter(({ release_id: id }) => id === scope.release.release_id)) {
      expect(plan.result.unmoved.map(({ name }) => name)).toContain(install.name);
    }
  }
  // While a rollout goes on, somebody is on its release or could be: one install's rollback ends it with the last one only.
  if (scope.kind === "install" && state.rollout !== null && after.rollout === null) {
    expect(after.installs.some(({ release_id: id }) => id === state.rollout!.release_id)).toBe(false);
  }
}

function checkUpgrade(world: World, asked: UpgradeAsked, plan: UpgradePlan): void {
  const { state } = world;
  for (const { row, from, cause } of plan.moves) {
    const before = state.installs.find(({ id }) => id === row.id)!;
    expect(before.pinned).toBe(false);
    expect(isBarred(state, row.artifact_sha256)).toBe(false);
    if (cause === "upgrade") {
      expect([row.release_id, inCohort(row, asked.cohort_percent)]).toEqual([asked.target.release_id, true]);
    } else {
      expect(row.release_id).not.toBe(asked.target.release_id);
      expect(world.gone.has(row.release_id) || world.yanked.has(row.release_id)).toBe(false);
    }
    // On, never back; but for those that a superseded rollout leaves behind.
    if (from!.release_id !== state.rollout?.release_id) {
      expect(byDigest.get(row.artifact_sha256)!.version_order >= from!.version_order).toBe(true);
    }
  }
}

describe("whatever a package went through", () => {
  test("nobody is placed on what is barred, gone, yanked or tried, a rollback bars nothing that it sends others to, and upgrades lead on", () => {
    let moves = 0;
    fastCheck.assert(
      fastCheck.property(fastCheck.array(step, { minLength: 4, maxLength: 30 }), (steps) => {
        const world = new World();
        for (const [index, one] of steps.entries()) {
          take(world, one, index);
          if (world.state.rollout !== null) moves += 1;
          for (const name of ["stable", "canary"] as const) {
            const tried = world.state.rollout?.release_id ?? "";
            const good = lastGood(world.state, name, world.placing, tried);
            expect(good === null || (good.release_id !== tried && !isBarred(world.state, good.artifact_sha256))).toBe(
              true,
            );
          }
        }
      }),
      { numRuns: runs, seed: 7 },
    );
    expect(moves).toBeGreaterThan(runs);
  });
});
