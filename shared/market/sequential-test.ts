// The sequential test of the health gate: evidence that runs of a new release fail more often than those of the old one,
// valid after every run. Called by gate.ts; the simulation calls it to know its abort boundary.
//
// Sources. The block e-variable for two Bernoulli streams: R. J. Turner, A. Ly, P. D. Grünwald, "Generic E-variables for
// exact sequential k-sample tests that allow for optional stopping", Journal of Statistical Planning and Inference 230
// (2024) 106116, arXiv:2106.02693. Wider null hypotheses: R. J. Turner, P. D. Grünwald, "Exact anytime-valid confidence
// intervals for contingency tables and beyond", arXiv:2203.09785, and "Safe sequential testing and effect estimation in
// stratified count data", AISTATS 2023, arXiv:2302.11401.
//
// A block is 1 run of the new release and r of the old one. For an alternative a > b (failure rates of new and old), let
// m = (a + r b) / (1 + r) be the rate that both would have if they were alike. The block's factor is
//   E = p_a(new) / p_m(new) × the product of p_b(old) / p_m(old) over the r old runs.
//
// E has a mean of at most 1 whenever the new run fails with a chance p no higher than the mean q of the old runs'
// chances q_1 … q_r, given all that came before (so also where rates change with time, for both arms alike):
//   the new run's part has the mean 1 + (a - m)(p - m) / (m (1 - m)) = 1 + r c (p - m), an old one's 1 - c (q_j - m),
//   with c = (a - b) / ((1 + r) m (1 - m)) > 0, since a - m = r (a - b) / (1 + r) and b - m = -(a - b) / (1 + r);
//   log(1 + t) <= t, so the log of the product is at most r c (p - m) - c (q_1 + … + q_r - r m) = r c (p - q) <= 0.
// So the product over blocks is an e-process for each alternative, and so is their mean (evidence.ts). The product
// depends on three counts only: blocks, failures among their new runs, failures among their old runs.
//
// The same lines, with the observed shares in place of p and q and Jensen's inequality before them, show that the
// evidence is at most 1 on any data in which the new release failed no more often than the old one: no abort there,
// not only a rare one.

import { logMean } from "./evidence.ts";

/** Failure rates that the old release may have, and by how much the new one may exceed them, in parts per thousand. */
const oldRatesPermille = [1, 4, 15, 50, 130, 300, 600] as const;
const risesPermille = [60, 120, 240, 480] as const;

export interface Alternative {
  readonly old_permille: number;
  readonly new_permille: number;
}

/**
 * The alternatives, all of the same weight, so that each gives away a factor of their number and no more. Old rates are a
 * factor of 2 to 4 apart, closest to 0, where a package's rate should be; rises double from 6 points on. The choice is not
 * delicate: 13 grids of 17 to 39 points differed by at most 3% in the new runs that they take, over the regressions of the
 * simulation, since a point's neighbours gain nearly what the point itself would.
 */
export const alternatives: readonly Alternative[] = oldRatesPermille.flatMap((old) =>
  risesPermille
    .map((rise) => ({ old_permille: old, new_permille: old + rise }))
    .filter(({ new_permille: risen }) => risen < 990),
);

/** ln of what a single run multiplies an alternative's evidence by. */
interface Factors {
  readonly new_failed: number;
  readonly new_succeeded: number;
  readonly old_failed: number;
  readonly old_succeeded: number;
}

export interface BlockTest {
  readonly old_runs_per_block: number;
  readonly factors: readonly Factors[];
}

export const oldRunsPerBlockMax = 20;

export function blockTest(oldRunsPerBlock: number): BlockTest {
  return {
    old_runs_per_block: oldRunsPerBlock,
    factors: alternatives.map(({ old_permille: old, new_permille: risen }) => {
      const [a, b] = [risen / 1000, old / 1000];
      const alike = (a + oldRunsPerBlock * b) / (1 + oldRunsPerBlock);
      return {
        new_failed: Math.log(a / alike),
        new_succeeded: Math.log((1 - a) / (1 - alike)),
        old_failed: Math.log(b / alike),
        old_succeeded: Math.log((1 - b) / (1 - alike)),
      };
    }),
  };
}

export interface BlockCounts {
  readonly blocks: number;
  /** Of the `blocks` new runs. */
  readonly new_failures: number;
  /** Of the `blocks` × `old_runs_per_block` old runs. */
  readonly old_failures: number;
}

/** ln of the evidence that the new release fails more often. Grows with new failures, shrinks with old ones. */
export function logEvidence({ old_runs_per_block: perBlock, factors }: BlockTest, counts: BlockCounts): number {
  const { blocks, new_failures: newFailed, old_failures: oldFailed } = counts;
  if (blocks === 0) return 0;
  return logMean(
    factors.map(
      (log) =>
        newFailed * log.new_failed +
        (blocks - newFailed) * log.new_succeeded +
        oldFailed * log.old_failed +
        (blocks * perBlock - oldFailed) * log.old_succeeded,
    ),
  );
}
