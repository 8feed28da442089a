// The health gate of a staged rollout: from counts of runs to one verdict, and the sentence that a person reads. Pure;
// called by whoever watches a rollout, as often as it likes. docs/market/HEALTH_GATE.md says what it promises.
//
// The gate can hold, let go on, or abort. It never promotes, and "continue" does not say that the release is good, only
// that its runs do not show it to be worse.

import { log10Milli } from "./evidence.ts";
import { beyondFactors, logMismatch, ratioTest, tolerances, type ExpectedSplit } from "./sample-ratio.ts";
import { alternatives, blockTest, logEvidence, oldRunsPerBlockMax } from "./sequential-test.ts";

/** An abort of a release that is no worse: a chance of at most 1 in 100 a rollout, looks at every run included. */
export const abortLog10Milli = 2_000;
/** A hold for the sample ratio where it is as expected: at most 1 in 1,000. */
export const ratioLog10Milli = 3_000;
/**
 * Blocks before the gate decides anything: more than one burst of runs of one install (sample-ratio.ts) can be. The
 * guarantee needs no minimum. A release that always fails, against one that never does, has evidence enough after 2 to 6
 * blocks, and is aborted at this many.
 */
export const blocksMin = 8;
/** Runs that each side must have had before the rollout, for their share to be expected of it. */
export const earlierRunsMin = 30;

/** What the cohort's installs and the others did before the rollout, in whatever window the caller knows. */
export interface BeforeRollout {
  readonly cohort_runs: number;
  readonly other_runs: number;
  readonly cohort_installs: number;
  readonly other_installs: number;
}

/** Fixed when the rollout starts, and kept with it: a test whose blocks change on the way is none. */
export interface GatePlan extends ExpectedSplit {
  /** Old runs in a block, beside 1 new run: 1 to 20. */
  readonly old_runs_per_block: number;
}

/**
 * The share of runs that the cohort's installs had, where both sides had enough of them, else their share of the installs.
 * Blocks follow that share, so that both arms get through them at the same pace. Below a share of 1 in 21, old runs are
 * in excess and those compared are earlier than the new ones; above a half, new runs are.
 */
export function gatePlan(before: BeforeRollout): GatePlan {
  const byRuns = before.cohort_runs >= earlierRunsMin && before.other_runs >= earlierRunsMin;
  const ours = byRuns ? before.cohort_runs : before.cohort_installs;
  const theirs = byRuns ? before.other_runs : before.other_installs;
  return {
    old_runs_per_block: Math.min(
      oldRunsPerBlockMax,
      Math.max(1, ours === 0 ? oldRunsPerBlockMax : Math.round(theirs / ours)),
    ),
    expected_new_share_ppm: ours + theirs === 0 ? 0 : Math.round((1_000_000 * ours) / (ours + theirs)),
    expected_share_of: byRuns ? "runs" : "installs",
  };
}

/**
 * Counts of the runs that started since the rollout began, by the release that they run. A run that failed or expired is
 * a failure.
 *
 * `blocks` is at most the number of complete ones, `min(new_runs, floor(old_runs / old_runs_per_block))`. Failures are
 * those among the first `blocks` new runs and the first `blocks × old_runs_per_block` old ones, in the order in which
 * runs STARTED. The order must not depend on outcomes, and that in which runs end does: failures are often quick, so that
 * of a release whose runs merely take longer, the failures end first (simulated: that order aborts it). Runs among the
 * first ones that have not ended yet are taken the harmless way round: a new one as no failure, an old one as a failure.
 * The evidence is then never more than it will be once all have ended, and the guarantee is kept at every moment.
 */
export interface GateCounts extends GatePlan {
  /** Runs that have started, whether they have ended or not. */
  readonly new_started: number;
  readonly old_started: number;
  /** Runs that have ended. */
  readonly new_runs: number;
  readonly old_runs: number;
  readonly blocks: number;
  readonly new_failures: number;
  readonly old_failures: number;
  /** Old runs of the blocks that have not ended yet, beside `old_failures`. */
  readonly old_unfinished: number;
}

export type HoldRule = "no_new_runs" | "no_old_runs" | "sample_ratio" | "too_few_runs";

interface Evidence {
  /** Thousandths of log10 of the e-value against "the new release fails no more often": 2,000 aborts. */
  readonly log10_e_milli: number;
  /** The same, against "runs start on both sides as expected": 3,000 holds. */
  readonly ratio_log10_e_milli: number;
  readonly counts: GateCounts;
}

export type GateVerdict =
  | ({ readonly state: "abort" } & Evidence)
  | ({ readonly state: "hold"; readonly rule: HoldRule } & Evidence)
  | ({ readonly state: "continue" } & Evidence);

/** Throws on counts that contradict each other: they are a fault of the caller's, and no verdict may rest on them. */
export function gateVerdict(counts: GateCounts): GateVerdict {
  requireSound(counts);
  const evidence: Evidence = {
    log10_e_milli: log10Milli(
      logEvidence(blockTest(counts.old_runs_per_block), {
        blocks: counts.blocks,
        new_failures: counts.new_failures,
        old_failures: counts.old_failures + counts.old_unfinished,
      }),
    ),
    ratio_log10_e_milli: log10Milli(logMismatch(ratioTest(counts), counts.new_started, counts.old_started)),
    counts,
  };
  const rule = holdRule(evidence);
  if (rule !== null) return { state: "hold", rule, ...evidence };
  return { state: evidence.log10_e_milli >= abortLog10Milli ? "abort" : "continue", ...evidence };
}

/** Missing data holds, and so do data that cannot be trusted. */
function holdRule({ counts, ratio_log10_e_milli: ratio }: Evidence): HoldRule | null {
  if (counts.new_runs === 0) return "no_new_runs";
  if (counts.old_runs === 0) return "no_old_runs";
  if (ratio >= ratioLog10Milli) return "sample_ratio";
  return counts.blocks < blocksMin ? "too_few_runs" : null;
}

function requireSound(counts: GateCounts): void {
  const { old_runs_per_block: perBlock, blocks, expected_share_of: _, ...others } = counts;
  const known: [boolean, string][] = [
    ...Object.entries({ ...others, blocks }).map(([name, count]): [boolean, string] => [
      Number.isSafeInteger(count) && count >= 0,
      `${name} is a whole number, not ${count}`,
    ]),
    [
      Number.isInteger(perBlock) && perBlock >= 1 && perBlock <= oldRunsPerBlockMax,
      `old_runs_per_block is 1 to ${oldRunsPerBlockMax}, not ${perBlock}`,
    ],
    [counts.expected_new_share_ppm <= 1_000_000, "a share is at most 1,000,000 parts per million"],
    [counts.new_runs <= counts.new_started && counts.old_runs <= counts.old_started, "more runs ended than started"],
    [blocks <= counts.new_runs && blocks * perBlock <= counts.old_runs, "more blocks than runs that ended"],
    [counts.new_failures <= blocks, "more new failures than new runs in the blocks"],
    [
      counts.old_failures + counts.old_unfinished <= blocks * perBlock,
      "more old failures and unfinished runs than old runs in the blocks",
    ],
  ];
  const wrong = known.find(([holds]) => !holds);
  if (wrong !== undefined) throw new RangeError(`the gate's counts are wrong: ${wrong[1]}`);
}

const percent = (part: number, whole: number): string => `${((100 * part) / whole).toFixed(1)}%`;
const share = (part: number, whole: number): string => `${part} of ${whole} (${percent(part, whole)})`;

function comparison({ blocks, old_runs_per_block: perBlock, ...counts }: GateCounts): string {
  const running = counts.old_unfinished === 0 ? "" : `, where ${counts.old_unfinished} are still running`;
  return (
    `${share(counts.new_failures, blocks)} runs of the new release failed, ` +
    `${share(counts.old_failures, blocks * perBlock)} of the old one${running}`
  );
}

const holdSentences: Readonly<Record<HoldRule, (counts: GateCounts) => string>> = {
  no_new_runs: () => "On hold: no run of the new release has ended yet.",
  no_old_runs: () => "On hold: no run of the old release has ended yet, so there is nothing to compare with.",
  sample_ratio: ({ new_started: ours, old_started: theirs, expected_new_share_ppm: expected }) =>
    `On hold: ${share(ours, ours + theirs)} started runs are of the new release, ` +
    `${percent(expected, 1_000_000)} were expected. Until that is explained, failures say nothing.`,
  too_few_runs: ({ blocks, old_runs_per_block: perBlock }) =>
    `On hold: ${blocks} of at least ${blocksMin} comparisons are complete, ` +
    `each of 1 run of the new release with ${perBlock} of the old one.`,
};

/** What a person is told: one or two short sentences. */
export function gateSentence(verdict: GateVerdict): string {
  const { counts } = verdict;
  if (verdict.state === "hold") return holdSentences[verdict.rule](counts);
  return verdict.state === "abort"
    ? `Aborted: ${comparison(counts)}. A release that fails no more often is aborted in at most 1 of 100 rollouts.`
    : `Going on: ${comparison(counts)}. This does not show that the new release fails more often.`;
}

/** Everything that verdicts depend on beside counts. The table in the docs is made with these, and says which. */
export const gateParameters = {
  abort_log10_milli: abortLog10Milli,
  ratio_log10_milli: ratioLog10Milli,
  blocks_min: blocksMin,
  earlier_runs_min: earlierRunsMin,
  alternatives,
  tolerances,
  beyond_factors: beyondFactors,
} as const;
