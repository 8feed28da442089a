// The sample-ratio check of the health gate: evidence that started runs do not split between the releases as they should,
// valid after every run. Called by gate.ts, which holds on a mismatch: runs that are missing or doubled on one side make
// failure rates that cannot be compared.
//
// Source: M. Lindon, A. Malek, "Anytime-Valid Inference for Multinomial Count Data", NeurIPS 2022, arXiv:2011.03567: a
// mixture of multinomial likelihood ratios against the expected share, as an e-process. Theirs is for visitors that are
// assigned one by one. Here installs are assigned and runs are counted, and the plain test holds most rollouts whose runs
// come in bursts (docs/market/HEALTH_GATE.md has the figures). Three things differ:
//
// 1. The hypothesis is a band, not a point: the odds of a started run being a new one are within a factor of what was
//    expected. The alternatives are points outside of it, half above its upper edge and half below its lower one, each
//    against the edge that is nearer, in place of their Dirichlet prior. So the share may also move about in the band.
// 2. Bursts: an install may start up to `burstRuns` runs at once. Likelihood ratios are taken to the power 1/burstRuns.
//    For an alternative q above the upper edge h, and a burst of n new and o old runs, n + o <= d = burstRuns, whose
//    expected share of new runs, given the past, is at most h:
//      (q/h)^(n/d) ((1-q)/(1-h))^(o/d) <= 1 + (n/d)(q/h - 1) + (o/d)((1-q)/(1-h) - 1)      (weighted means, the rest is 1)
//    the mean of which is 1 + (q - h)/d × (mean n / h - mean o / (1 - h)) <= 1. Below the lower edge it is the mirror image.
// 3. Where the expected share is that of installs, not of runs that they had before, the band is wide: volumes differ from
//    install to install by an order of magnitude, and a cohort may be a single one.
//
// It sees: runs of one release that do not start or are not recorded, retry storms, a cohort of another size than was
// stated. It does not see: what is lost on both sides alike, what is lost between start and end (an unfinished run is
// missing evidence and never an abort, see gate.ts), a cohort of other installs with the same volume, a shift within the
// band. It may hold wrongly where bursts are much larger than `burstRuns`; such a hold goes when the shares come right.

import { logMean } from "./evidence.ts";

/** Whose share was expected: that of the runs which the cohort's installs had before, or of the installs themselves. */
export type ShareOf = "runs" | "installs";

export interface Tolerance {
  /** The band: the odds of a started run being a new one, over those expected, are between 1/oddsFactor and oddsFactor. */
  readonly oddsFactor: number;
  readonly burstRuns: number;
}
export const tolerances: Readonly<Record<ShareOf, Tolerance>> = {
  runs: { oddsFactor: 2, burstRuns: 5 },
  installs: { oddsFactor: 8, burstRuns: 5 },
};
/** The alternatives: odds beyond the band's edge by these factors. */
export const beyondFactors = [1.5, 3, 10, 100] as const;

export interface ExpectedSplit {
  /** The share of started runs that should be of the new release, in parts per million. */
  readonly expected_new_share_ppm: number;
  readonly expected_share_of: ShareOf;
}

/** For each alternative, ln of what a single started run multiplies its evidence by. */
export interface RatioTest {
  readonly factors: readonly { readonly new_started: number; readonly old_started: number }[];
}

export function ratioTest(split: ExpectedSplit, tolerance = tolerances[split.expected_share_of]): RatioTest {
  const ppm = Math.min(999_999, Math.max(1, split.expected_new_share_ppm));
  const expected = ppm / (1_000_000 - ppm);
  // Odds o are a share of o / (1 + o) new runs and 1 / (1 + o) old ones.
  const against = (edge: number, alternative: number) => {
    const old = (Math.log1p(edge) - Math.log1p(alternative)) / tolerance.burstRuns;
    return { new_started: Math.log(alternative / edge) / tolerance.burstRuns + old, old_started: old };
  };
  const [above, below] = [expected * tolerance.oddsFactor, expected / tolerance.oddsFactor];
  return { factors: beyondFactors.flatMap((by) => [against(above, above * by), against(below, below / by)]) };
}

/** ln of the evidence that started runs do not split as expected. */
export const logMismatch = ({ factors }: RatioTest, newStarted: number, oldStarted: number): number =>
  logMean(factors.map((log) => newStarted * log.new_started + oldStarted * log.old_started));
