// Seeded rollouts under the health gate, for its simulation and for the table in docs/market/HEALTH_GATE.md
// (scripts/gate-table.ts). Every rollout is judged after every run, until it is aborted or its horizon is reached.

import { gatePlan, type GateCounts, type GatePlan } from "../../shared/market/gate.ts";
import { FastGate } from "./gate-boundary.ts";
import { seeded } from "./audit-events.ts";

type Random = () => number;

export const rolloutsOfTable = 10_000;
/** New runs after which a rollout without an abort counts as gone through. */
export const horizonNewRuns = 500;

const cohorts = [10, 50] as const;
type Cohort = (typeof cohorts)[number];

/** What became of a scenario's rollouts. */
export interface Outcome {
  readonly rollouts: number;
  /** New runs that had ended at each abort, in ascending order. */
  readonly aborts: readonly number[];
  /** Rollouts that were held for the sample ratio at some time, and at their end. */
  readonly heldEver: number;
  readonly heldAtEnd: number;
  /** Started runs at the first such hold, in ascending order. */
  readonly holds: readonly number[];
}

export interface Rollout {
  readonly abortedAt: number | null;
  readonly heldFrom: number | null;
  readonly heldAtEnd: boolean;
  /** The last counts that were judged, and whether the boundary said abort: to be compared with the gate itself. */
  readonly last: GateCounts;
}

export interface Scenario {
  readonly kind: "no_worse" | "worse" | "beyond" | "ratio" | "mismatch";
  readonly name: string;
  readonly cohort_percent: Cohort;
  /** Everything that its rollouts depend on, beside the gate and the seed. */
  readonly model: Readonly<Record<string, number | string>>;
  readonly seed: number;
  /** A maker of rollouts, which share what was computed of the gate's boundaries. */
  prepare(): (next: Random) => Rollout;
}

const planOf = (cohort: Cohort): GatePlan =>
  gatePlan({ cohort_runs: 100 * cohort, other_runs: 100 * (100 - cohort), cohort_installs: 0, other_installs: 0 });

/** In the order of the table. */
const kinds: readonly Scenario["kind"][] = ["no_worse", "worse", "beyond", "ratio", "mismatch"];

const rate = (share: number): string => `${Number((100 * share).toFixed(1))}%`;

/** Runs that end at once, each failing with its release's rate. */
function ratesRollout(cohort: Cohort, failureRates: { old: number; new: number }): () => (next: Random) => Rollout {
  return () => {
    const plan = planOf(cohort);
    const perBlock = plan.old_runs_per_block;
    const gate = new FastGate(plan);
    // Outcomes in order: the blocks are the first of each.
    const oldFailed = new Uint8Array(horizonNewRuns * 100);
    const newFailed = new Uint8Array(horizonNewRuns + 1);
    return (next) => {
      let [ours, theirs, blocks, newFailures, oldFailures] = [0, 0, 0, 0, 0];
      let heldFrom: number | null = null;
      let held = false;
      let abortedAt: number | null = null;
      while (abortedAt === null && ours < horizonNewRuns) {
        if (next() * 100 < cohort) newFailed[ours++] = next() < failureRates.new ? 1 : 0;
        else oldFailed[theirs++] = next() < failureRates.old ? 1 : 0;
        if (blocks < ours && (blocks + 1) * perBlock <= theirs) {
          newFailures += newFailed[blocks]!;
          for (let at = blocks * perBlock; at < (blocks + 1) * perBlock; at += 1) oldFailures += oldFailed[at]!;
          blocks += 1;
        }
        held = gate.mismatches(ours, theirs);
        if (held) heldFrom ??= ours + theirs;
        else if (gate.aborts(blocks, newFailures, oldFailures)) abortedAt = ours;
      }
      const runs = { new_started: ours, old_started: theirs, new_runs: ours, old_runs: theirs };
      const failures = { blocks, new_failures: newFailures, old_failures: oldFailures, old_unfinished: 0 };
      return { abortedAt, heldFrom, heldAtEnd: held, last: { ...plan, ...runs, ...failures } };
    };
  };
}

/**
 * Failures end with the next start of any run, successes after `old_takes` or `new_takes` starts. The order is that of the
 * starts, as the gate wants it, or that of the ends, to show what that does.
 */
function durationsRollout(
  cohort: Cohort,
  model: { old_rate: number; new_rate: number; old_takes: number; new_takes: number; order: "started" | "ended" },
): () => (next: Random) => Rollout {
  return () => {
    const plan = planOf(cohort);
    const perBlock = plan.old_runs_per_block;
    const gate = new FastGate(plan);
    return (next) => {
      const arms = { new: new Arm(model.order, 1), old: new Arm(model.order, perBlock) };
      const endsAt = new Map<number, { arm: Arm; at: number }[]>();
      let abortedAt: number | null = null;
      let heldFrom: number | null = null;
      let held = false;
      let blocks = 0;
      for (let now = 0; abortedAt === null && arms.new.ended < horizonNewRuns; now += 1) {
        const isNew = next() * 100 < cohort;
        const failed = next() < (isNew ? model.new_rate : model.old_rate);
        const arm = isNew ? arms.new : arms.old;
        const end = now + (failed ? 1 : isNew ? model.new_takes : model.old_takes);
        endsAt.set(end, [...(endsAt.get(end) ?? []), { arm, at: arm.start(failed) }]);
        for (const { arm, at } of endsAt.get(now) ?? []) arm.end(at);
        endsAt.delete(now);
        blocks = Math.min(arms.new.ended, Math.floor(arms.old.ended / perBlock));
        arms.new.reach(blocks);
        arms.old.reach(blocks);
        held = gate.mismatches(arms.new.started, arms.old.started);
        if (held) heldFrom ??= arms.new.started + arms.old.started;
        else if (gate.aborts(blocks, arms.new.failures, arms.old.failures + arms.old.unfinished))
          abortedAt = arms.new.ended;
      }
      const runs = { new_runs: arms.new.ended, old_runs: arms.old.ended };
      const started = { new_started: arms.new.started, old_started: arms.old.started };
      const failures = { new_failures: arms.new.failures, old_failures: arms.old.failures };
      const last = { ...plan, ...runs, ...started, blocks, ...failures, old_unfinished: arms.old.unfinished };
      return { abortedAt, heldFrom, heldAtEnd: held, last };
    };
  };
}

/** One side's runs in the order that blocks are made of, and what is known of the first of them. */
class Arm {
  readonly order: "started" | "ended";
  readonly perBlock: number;
  started = 0;
  ended = 0;
  failures = 0;
  unfinished = 0;
  /** By place in the order: 0 succeeded, 1 failed, 2 not ended. */
  readonly #states: (0 | 1 | 2)[] = [];
  readonly #failed: boolean[] = [];
  #reached = 0;

  constructor(order: "started" | "ended", perBlock: number) {
    this.order = order;
    this.perBlock = perBlock;
  }

  start(failed: boolean): number {
    this.#failed.push(failed);
    if (this.order === "started") this.#states.push(2);
    this.started += 1;
    return this.started - 1;
  }

  end(at: number): void {
    const state = this.#failed[at] === true ? 1 : 0;
    this.ended += 1;
    if (this.order === "ended") {
      this.#states.push(state);
      return;
    }
    this.#states[at] = state;
    if (at >= this.#reached) return;
    this.unfinished -= 1;
    this.failures += state;
  }

  /** The first `blocks` blocks are counted from now on. */
  reach(blocks: number): void {
    for (; this.#reached < blocks * this.perBlock; this.#reached += 1) {
      if (this.#states[this.#reached] === 1) this.failures += 1;
      if (this.#states[this.#reached] === 2) this.unfinished += 1;
    }
  }
}

/** Installs of one volume, one of which fails always, on any release; the cohort is drawn anew for each rollout. */
function brokenInstallRollout(cohort: Cohort, installs: number, rate: number): () => (next: Random) => Rollout {
  return () => {
    const inCohort = (installs * cohort) / 100;
    const worse = ratesRollout(cohort, { new: (1 + rate * (inCohort - 1)) / inCohort, old: rate })();
    const others = installs - inCohort;
    const better = ratesRollout(cohort, { new: rate, old: (1 + rate * (others - 1)) / others })();
    return (next) => (next() < cohort / 100 ? worse : better)(next);
  };
}

interface RatioModel {
  readonly installs: number;
  /** Of the logarithm of an install's volume of runs. */
  readonly volume_sigma: number;
  /** Runs come 1 to this many at once. */
  readonly burst_max: number;
  /** Runs seen before the rollout. */
  readonly earlier_runs: number;
  /** New runs that start, for each that should. */
  readonly new_starts: number;
  /** "plain" is a test against the point, of single runs. */
  readonly check: "gate" | "plain";
}

/** Only starts: whether runs of installs with their volumes and bursts look as if they were split wrongly. */
function ratioRollout(cohort: Cohort, model: RatioModel): () => (next: Random) => Rollout {
  return () => {
    const gates = new Map<string, FastGate>();
    const burst = (next: Random): number => 1 + Math.floor(next() * model.burst_max);
    return (next) => {
      const volumes = Array.from({ length: model.installs }, () => Math.exp(model.volume_sigma * normal(next)));
      const inCohort = Math.max(1, Math.round((model.installs * cohort) / 100));
      const sum = (from: number, to: number): number =>
        volumes.slice(from, to).reduce((left, right) => left + right, 0);
      const [ours, theirs] = [sum(0, inCohort), sum(inCohort, model.installs)];

      const before = { cohort: 0, other: 0 };
      for (let seen = 0; seen < model.earlier_runs;) {
        const size = Math.min(burst(next), model.earlier_runs - seen);
        before[next() * (ours + theirs) < ours ? "cohort" : "other"] += size;
        seen += size;
      }
      const plan = gatePlan({
        cohort_runs: before.cohort,
        other_runs: before.other,
        cohort_installs: inCohort,
        other_installs: model.installs - inCohort,
      });
      const key = JSON.stringify(plan);
      const gate =
        gates.get(key) ?? new FastGate(plan, model.check === "plain" ? { oddsFactor: 1, burstRuns: 1 } : undefined);
      gates.set(key, gate);

      const share = (ours * model.new_starts) / (ours * model.new_starts + theirs);
      const startsMax = (horizonNewRuns * 100) / cohort;
      const started = { new: 0, old: 0 };
      let heldFrom: number | null = null;
      while (started.new + started.old < startsMax) {
        started[next() < share ? "new" : "old"] += burst(next);
        if (heldFrom === null && gate.mismatches(started.new, started.old)) heldFrom = started.new + started.old;
      }
      const heldAtEnd = heldFrom !== null && gate.mismatches(started.new, started.old);
      const runs = { new_started: started.new, old_started: started.old, new_runs: started.new, old_runs: started.old };
      const failures = { blocks: 0, new_failures: 0, old_failures: 0, old_unfinished: 0 };
      return { abortedAt: null, heldFrom, heldAtEnd, last: { ...plan, ...runs, ...failures } };
    };
  };
}

/** Box and Muller. */
const normal = (next: Random): number => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next());

const noWorse = [
  [0, 0],
  [0.01, 0.01],
  [0.05, 0.05],
  [0.2, 0.2],
  [0.05, 0.02],
] as const;
const worse = [
  [0, 0.1],
  [0, 0.2],
  [0, 0.5],
  [0, 1],
  [0.02, 0.1],
  [0.02, 0.2],
  [0.02, 0.5],
  [0.02, 1],
  [0.05, 0.15],
  [0.2, 0.4],
] as const;

const rateScenario = (cohort: Cohort, kind: "no_worse" | "worse", [old, risen]: readonly [number, number]) => ({
  kind,
  name: `old ${rate(old)}, new ${rate(risen)}`,
  cohort_percent: cohort,
  model: { old_rate: old, new_rate: risen },
  prepare: ratesRollout(cohort, { old, new: risen }),
});

function durationScenario(
  cohort: Cohort,
  kind: "no_worse" | "worse" | "beyond",
  [old, risen]: readonly [number, number],
  order: "started" | "ended",
) {
  const model = { old_rate: old, new_rate: risen, old_takes: 10, new_takes: 200, order };
  return {
    kind,
    name: `old ${rate(old)}, new ${rate(risen)}, whose successes take 20 times as long${order === "started" ? "" : "; counted as they end"}`,
    cohort_percent: cohort,
    model,
    prepare: durationsRollout(cohort, model),
  };
}

const usual: RatioModel = {
  installs: 40,
  volume_sigma: 1,
  burst_max: 1,
  earlier_runs: 1_500,
  new_starts: 1,
  check: "gate",
};

function ratioScenario(cohort: Cohort, name: string, changes: Partial<RatioModel>) {
  const model = { ...usual, ...changes };
  return {
    kind: model.new_starts === 1 ? ("ratio" as const) : ("mismatch" as const),
    name,
    cohort_percent: cohort,
    model: { ...model },
    prepare: ratioRollout(cohort, model),
  };
}

export const scenarios: readonly Scenario[] = cohorts
  .flatMap((cohort) => [
    ...noWorse.map((rates) => rateScenario(cohort, "no_worse", rates)),
    ...worse.map((rates) => rateScenario(cohort, "worse", rates)),
    durationScenario(cohort, "no_worse", [0.05, 0.05], "started"),
    durationScenario(cohort, "worse", [0.02, 0.2], "started"),
    durationScenario(cohort, "beyond", [0.05, 0.05], "ended"),
    {
      kind: "beyond" as const,
      name: "both 1%, but 1 of 20 installs fails always, whatever it runs",
      cohort_percent: cohort,
      model: { installs: 20, rate: 0.01 },
      prepare: brokenInstallRollout(cohort, 20, 0.01),
    },
    ratioScenario(cohort, "alike installs, single runs", { volume_sigma: 0 }),
    ratioScenario(cohort, "unlike installs, single runs", {}),
    ratioScenario(cohort, "unlike installs, bursts of 1 to 9", { burst_max: 9 }),
    ratioScenario(cohort, "the same, by the plain test", { burst_max: 9, check: "plain" }),
    ratioScenario(cohort, "unlike installs, bursts of 1 to 39", { burst_max: 39 }),
    ratioScenario(cohort, "10 unlike installs, no earlier runs, bursts of 1 to 9", {
      installs: 10,
      earlier_runs: 0,
      burst_max: 9,
    }),
    ratioScenario(cohort, "1 of 10 new runs starts", { new_starts: 0.1 }),
    ratioScenario(cohort, "new runs start 4 times over", { new_starts: 4 }),
    ratioScenario(cohort, "new runs start 10 times over", { new_starts: 10 }),
  ])
  .toSorted((left, right) => kinds.indexOf(left.kind) - kinds.indexOf(right.kind))
  .map((scenario, at) => ({ ...scenario, seed: 1_901 + at }));

/** Rollouts of a scenario: the first of them are the same, however many there are. */
export function simulate(scenario: Scenario, rollouts: number, see?: (rollout: Rollout) => void): Outcome {
  const rollOut = scenario.prepare();
  const next = seeded(scenario.seed);
  const all = Array.from({ length: rollouts }, () => rollOut(next));
  if (see !== undefined) for (const rollout of all) see(rollout);
  const ascending = (values: (number | null)[]): number[] =>
    values.filter((value) => value !== null).toSorted((left, right) => left - right);
  const holds = ascending(all.map(({ heldFrom }) => heldFrom));
  return {
    rollouts,
    aborts: ascending(all.map(({ abortedAt }) => abortedAt)),
    heldEver: holds.length,
    heldAtEnd: all.filter(({ heldAtEnd }) => heldAtEnd).length,
    holds,
  };
}
