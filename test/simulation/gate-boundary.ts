// The health gate's answers for one plan, computed once and remembered, so that a simulation can ask after every one of
// its hundred million runs. test/simulation/gate.test.ts holds them against `gateVerdict` itself.

import { log10Milli } from "../../shared/market/evidence.ts";
import { abortLog10Milli, blocksMin, ratioLog10Milli, type GatePlan } from "../../shared/market/gate.ts";
import {
  logMismatch,
  ratioTest,
  tolerances,
  type RatioTest,
  type Tolerance,
} from "../../shared/market/sample-ratio.ts";
import { blockTest, logEvidence, type BlockTest } from "../../shared/market/sequential-test.ts";

const blocksMaxHere = 1_000_000;

export class FastGate {
  readonly #test: BlockTest;
  readonly #ratio: RatioTest;
  /** The fewest new failures that abort, by blocks and old failures. */
  readonly #aborts = new Map<number, number>();
  /** Of the odds of a started run being a new one. */
  readonly #band: { readonly from: number; readonly to: number };

  constructor(plan: GatePlan, tolerance: Tolerance = tolerances[plan.expected_share_of]) {
    const expected = plan.expected_new_share_ppm / (1_000_000 - plan.expected_new_share_ppm);
    this.#band = { from: expected / tolerance.oddsFactor, to: expected * tolerance.oddsFactor };
    this.#test = blockTest(plan.old_runs_per_block);
    this.#ratio = ratioTest(plan, tolerance);
  }

  aborts(blocks: number, newFailures: number, oldFailures: number): boolean {
    if (blocks < blocksMin) return false;
    const key = oldFailures * blocksMaxHere + blocks;
    let fewest = this.#aborts.get(key);
    if (fewest === undefined) {
      fewest = this.#fewestNewFailures(blocks, oldFailures);
      this.#aborts.set(key, fewest);
    }
    return newFailures >= fewest;
  }

  /** By halving, since the evidence grows with the new failures. */
  #fewestNewFailures(blocks: number, oldFailures: number): number {
    let [from, to] = [0, blocks + 1];
    while (from < to) {
      const middle = Math.floor((from + to) / 2);
      const counts = { blocks, new_failures: middle, old_failures: oldFailures };
      if (log10Milli(logEvidence(this.#test, counts)) >= abortLog10Milli) to = middle;
      else from = middle + 1;
    }
    return from;
  }

  /** Within the band no alternative is likelier than its edge, so that there is nothing to compute. */
  mismatches(newStarted: number, oldStarted: number): boolean {
    const odds = newStarted / oldStarted;
    if (odds >= this.#band.from && odds <= this.#band.to) return false;
    return log10Milli(logMismatch(this.#ratio, newStarted, oldStarted)) >= ratioLog10Milli;
  }
}
