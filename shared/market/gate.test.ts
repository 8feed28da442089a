import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { logMean } from "./evidence.ts";
import { abortLog10Milli, blocksMin, gatePlan, gateSentence, gateVerdict, type GateCounts } from "./gate.ts";
import { logMismatch, ratioTest, tolerances } from "./sample-ratio.ts";
import { blockTest, logEvidence, oldRunsPerBlockMax } from "./sequential-test.ts";

const allPerBlock = Array.from({ length: oldRunsPerBlockMax }, (_, at) => at + 1);
const rates = [0, 0.001, 0.01, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 0.9, 0.99, 1];
/** Rounding, over some twenty factors. */
const slack = 1e-9;

/** Complete blocks whose runs have all ended, split as expected. */
const countsOf = (perBlock: number, blocks: number, newFailures: number, oldFailures: number): GateCounts => ({
  old_runs_per_block: perBlock,
  expected_new_share_ppm: Math.round(1_000_000 / (1 + perBlock)),
  expected_share_of: "runs",
  new_started: blocks,
  old_started: blocks * perBlock,
  new_runs: blocks,
  old_runs: blocks * perBlock,
  blocks,
  new_failures: newFailures,
  old_failures: oldFailures,
  old_unfinished: 0,
});

/** Any sound counts of blocks: r, blocks, and failures on both sides. */
const anyBlocks = fc
  .record({
    perBlock: fc.integer({ min: 1, max: oldRunsPerBlockMax }),
    blocks: fc.oneof(fc.nat(60), fc.nat(1_000_000)),
  })
  .chain(({ perBlock, blocks }) =>
    fc.record({
      perBlock: fc.constant(perBlock),
      blocks: fc.constant(blocks),
      newFailures: fc.nat(blocks),
      oldFailures: fc.nat(blocks * perBlock),
    }),
  );

describe("the sequential test", () => {
  test.each(allPerBlock)(
    "a block of 1 and %i gains nothing in the mean where the new release fails no more",
    (perBlock) => {
      for (const { new_failed, new_succeeded, old_failed, old_succeeded } of blockTest(perBlock).factors) {
        for (const old of rates) {
          // Every outcome of the old runs, by their number of failures, with its chance.
          let oldMean = 0;
          let chance = (1 - old) ** perBlock;
          for (let failures = 0; failures <= perBlock; failures += 1) {
            if (old === 1) chance = failures === perBlock ? 1 : 0;
            oldMean += chance * Math.exp(failures * old_failed + (perBlock - failures) * old_succeeded);
            chance *= ((perBlock - failures) / (failures + 1)) * (old / (1 - old));
          }
          for (const risen of rates.filter((rate) => rate <= old)) {
            const newMean = risen * Math.exp(new_failed) + (1 - risen) * Math.exp(new_succeeded);
            expect(newMean * oldMean).toBeLessThanOrEqual(1 + slack);
          }
        }
      }
    },
  );

  test("that holds too where the old runs of a block differ, and the new one fails no more than they do in the mean", () => {
    const chance = fc.double({ min: 0, max: 1, noNaN: true });
    fc.assert(
      fc.property(fc.array(chance, { minLength: 1, maxLength: oldRunsPerBlockMax }), chance, (old, part) => {
        const risen = (part * old.reduce((left, right) => left + right, 0)) / old.length;
        for (const log of blockTest(old.length).factors) {
          const oldMeans = old.map(
            (rate) => rate * Math.exp(log.old_failed) + (1 - rate) * Math.exp(log.old_succeeded),
          );
          const newMean = risen * Math.exp(log.new_failed) + (1 - risen) * Math.exp(log.new_succeeded);
          expect(oldMeans.reduce((product, mean) => product * mean, newMean)).toBeLessThanOrEqual(1 + slack);
        }
      }),
    );
  });

  test("counts alone give what multiplying block by block gives", () => {
    const block = fc.record({ failed: fc.boolean(), old: fc.array(fc.boolean(), { minLength: 9, maxLength: 9 }) });
    fc.assert(
      fc.property(fc.array(block, { minLength: 1, maxLength: 40 }), (blocks) => {
        const testOfNine = blockTest(9);
        const products = testOfNine.factors.map(() => 1);
        for (const { failed, old } of blocks)
          for (const [at, log] of testOfNine.factors.entries()) {
            products[at]! *= Math.exp(failed ? log.new_failed : log.new_succeeded);
            for (const one of old) products[at]! *= Math.exp(one ? log.old_failed : log.old_succeeded);
          }
        const mean = products.reduce((left, right) => left + right, 0) / products.length;
        const counts = {
          blocks: blocks.length,
          new_failures: blocks.filter(({ failed }) => failed).length,
          old_failures: blocks.flatMap(({ old }) => old).filter(Boolean).length,
        };
        expect(logEvidence(testOfNine, counts)).toBeCloseTo(Math.log(mean), 8);
      }),
    );
  });

  test("one more new failure never weakens the evidence, one more old failure never strengthens it", () => {
    fc.assert(
      fc.property(anyBlocks, ({ perBlock, blocks, newFailures, oldFailures }) => {
        const at = (failures: number, old: number): number =>
          logEvidence(blockTest(perBlock), { blocks, new_failures: failures, old_failures: old });
        const evidence = at(newFailures, oldFailures);
        expect(evidence).toBeGreaterThanOrEqual(at(Math.max(0, newFailures - 1), oldFailures));
        expect(evidence).toBeLessThanOrEqual(at(newFailures, Math.max(0, oldFailures - 1)));
      }),
    );
  });

  test("data in which the new release failed no more often never abort, and are no evidence at all", () => {
    fc.assert(
      fc.property(anyBlocks, ({ perBlock, blocks, newFailures, oldFailures }) => {
        const none = Math.min(newFailures, Math.floor(oldFailures / perBlock));
        const verdict = gateVerdict(countsOf(perBlock, blocks, none, oldFailures));
        expect(verdict.state).not.toBe("abort");
        expect(verdict.log10_e_milli).toBeLessThanOrEqual(0);
      }),
      { numRuns: 500 },
    );
  });
});

describe("the sample ratio", () => {
  const expected = { expected_new_share_ppm: 100_000, expected_share_of: "runs" as const };

  test("a burst of up to five runs gains nothing in the mean where its share is within the band", () => {
    const { oddsFactor, burstRuns } = tolerances.runs;
    const burst = fc
      .record({
        size: fc.integer({ min: 1, max: burstRuns }),
        ours: fc.nat(burstRuns),
        weight: fc.integer({ min: 1, max: 100 }),
      })
      .map(({ size, ours, weight }) => ({ ours: Math.min(ours, size), theirs: size - Math.min(ours, size), weight }));
    const within = fc.double({ min: 1 / oddsFactor, max: oddsFactor, noNaN: true });
    fc.assert(
      fc.property(fc.array(burst, { minLength: 2, maxLength: 6 }), within, (bursts, position) => {
        const total = (of: (one: (typeof bursts)[number]) => number): number =>
          bursts.reduce((sum, one) => sum + one.weight * of(one), 0);
        const [ours, theirs] = [total(({ ours }) => ours), total(({ theirs }) => theirs)];
        fc.pre(ours > 0 && theirs > 0);
        const odds = ours / theirs / position;
        // Not rounded to parts per million here: the band's edges are to be met exactly.
        const split = { expected_new_share_ppm: (1_000_000 * odds) / (1 + odds), expected_share_of: "runs" as const };
        for (const log of ratioTest(split).factors) {
          const mean = total((one) => Math.exp(one.ours * log.new_started + one.theirs * log.old_started));
          expect(mean / total(() => 1)).toBeLessThanOrEqual(1 + slack);
        }
      }),
      { numRuns: 1_000 },
    );
  });

  test("shares within the band are never evidence, however many runs there are", () => {
    const split = ratioTest(expected);
    for (const runs of [10, 1_000, 1_000_000, 100_000_000])
      for (const odds of [1 / 18, 1 / 9, 2 / 9])
        expect(logMismatch(split, (runs * odds) / (1 + odds), runs / (1 + odds))).toBeLessThanOrEqual(slack);
  });

  test("a mismatch holds and never aborts, though every new run failed and no old one", () => {
    const counts = { ...countsOf(9, 200, 200, 0), new_started: 20_000 };
    expect(gateVerdict(countsOf(9, 200, 200, 0)).state).toBe("abort");
    expect(gateVerdict(counts)).toMatchObject({ state: "hold", rule: "sample_ratio" });
    expect(gateVerdict({ ...counts, new_started: 1_800 * 2 })).toMatchObject({ state: "hold", rule: "sample_ratio" });
    expect(gateVerdict({ ...counts, new_started: 300 }).state).toBe("abort");
  });

  test("a share of installs is held to less than a share of runs", () => {
    const counts = { ...countsOf(9, 200, 0, 0), new_started: 1_000 };
    expect(gateVerdict(counts)).toMatchObject({ state: "hold", rule: "sample_ratio" });
    expect(gateVerdict({ ...counts, expected_share_of: "installs" }).state).toBe("continue");
  });

  test.each([0, 1_000_000])("an expected share of %i parts per million is one, too", (ppm) => {
    const counts = { ...countsOf(1, 400, 0, 0), expected_new_share_ppm: ppm };
    expect(gateVerdict(counts)).toMatchObject({ state: "hold", rule: "sample_ratio" });
  });
});

describe("the verdict", () => {
  test.each(allPerBlock)(
    "a release that always fails is aborted with the minimum of blocks, of 1 and %i",
    (perBlock) => {
      for (let blocks = 1; blocks < blocksMin; blocks += 1)
        expect(gateVerdict(countsOf(perBlock, blocks, blocks, 0))).toMatchObject({
          state: "hold",
          rule: "too_few_runs",
        });
      expect(gateVerdict(countsOf(perBlock, blocksMin, blocksMin, 0)).state).toBe("abort");
    },
  );

  test("missing runs hold, whichever side they are missing on", () => {
    const none = countsOf(9, 0, 0, 0);
    expect(gateVerdict(none)).toEqual({
      state: "hold",
      rule: "no_new_runs",
      log10_e_milli: 0,
      ratio_log10_e_milli: 0,
      counts: none,
    });
    expect(gateVerdict({ ...none, new_started: 4, new_runs: 4 })).toMatchObject({ rule: "no_old_runs" });
    expect(gateVerdict({ ...none, old_started: 40, old_runs: 40 })).toMatchObject({ rule: "no_new_runs" });
    // Started, and none of them ended: hung runs are no evidence either.
    expect(gateVerdict({ ...none, new_started: 9, old_started: 81, old_runs: 81 })).toMatchObject({
      rule: "no_new_runs",
    });
  });

  test("the abort is decided on the very number that is written down", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 20 }),
        fc.integer({ min: blocksMin, max: 500 }),
        fc.nat(500),
        (perBlock, blocks, some) => {
          const verdict = gateVerdict(countsOf(perBlock, blocks, Math.min(some, blocks), 0));
          expect(verdict.state).toBe(verdict.log10_e_milli >= abortLog10Milli ? "abort" : "continue");
        },
      ),
    );
  });

  test("every number of a verdict is a whole one, up to a million blocks of twenty", () => {
    const million = 1_000_000;
    for (const [failed, oldFailed] of [
      [0, 0],
      [0, 20 * million],
      [million, 0],
      [million, 20 * million],
      [1, 20],
    ] as const) {
      const { counts, ...verdict } = gateVerdict(countsOf(20, million, failed, oldFailed));
      expect(verdict.state).toBe(failed === million && oldFailed === 0 ? "abort" : "continue");
      const numbers = [verdict.log10_e_milli, verdict.ratio_log10_e_milli, ...Object.values(counts)];
      expect(numbers.filter((value) => typeof value === "number" && !Number.isSafeInteger(value))).toEqual([]);
    }
  });

  test("old runs that have not ended never make for more evidence than there will be, however they end", () => {
    fc.assert(
      fc.property(
        anyBlocks,
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (any, open, fail) => {
          const unfinished = Math.floor(open * any.oldFailures);
          const failedAlready = any.oldFailures - unfinished;
          const now = {
            ...countsOf(any.perBlock, any.blocks, any.newFailures, failedAlready),
            old_unfinished: unfinished,
          };
          const later = countsOf(
            any.perBlock,
            any.blocks,
            any.newFailures,
            failedAlready + Math.floor(fail * unfinished),
          );
          expect(gateVerdict(now).log10_e_milli).toBeLessThanOrEqual(gateVerdict(later).log10_e_milli);
        },
      ),
    );
  });

  test.each([
    [{ new_failures: 11 }, "more new failures"],
    [{ old_failures: 80, old_unfinished: 11 }, "more old failures"],
    [{ blocks: 11 }, "more blocks"],
    [{ old_runs_per_block: 10 }, "more blocks"],
    [{ old_runs_per_block: 0 }, "1 to 20"],
    [{ old_runs_per_block: 21 }, "1 to 20"],
    [{ new_runs: -1 }, "whole number"],
    [{ old_started: Number.NaN }, "whole number"],
    [{ new_started: 9 }, "more runs ended than started"],
    [{ expected_new_share_ppm: 1_000_001 }, "share"],
  ])("counts that contradict each other give no verdict: %o", (wrong, words) => {
    expect(() => gateVerdict({ ...countsOf(9, 10, 0, 0), ...wrong })).toThrow(words);
  });
});

describe("the plan", () => {
  const before = { cohort_runs: 400, other_runs: 1_600, cohort_installs: 1, other_installs: 9 };

  test("the share of runs is expected where both sides had enough of them, else that of installs", () => {
    const byRuns = { old_runs_per_block: 4, expected_new_share_ppm: 200_000, expected_share_of: "runs" };
    const byInstalls = { old_runs_per_block: 9, expected_new_share_ppm: 100_000, expected_share_of: "installs" };
    expect(gatePlan(before)).toEqual(byRuns);
    expect(gatePlan({ ...before, cohort_runs: 29 })).toEqual(byInstalls);
    expect(gatePlan({ ...before, other_runs: 29 })).toEqual(byInstalls);
  });

  test("any rollout has a plan that the gate takes", () => {
    const installs = fc.nat(1_000);
    const runs = fc.oneof(fc.nat(100), fc.nat(10_000_000));
    const any = fc.record({ cohort_runs: runs, other_runs: runs, cohort_installs: installs, other_installs: installs });
    fc.assert(
      fc.property(any, (before) => {
        const counts = { ...countsOf(1, 0, 0, 0), ...gatePlan(before) };
        expect(gateVerdict(counts)).toMatchObject({ state: "hold", rule: "no_new_runs" });
      }),
    );
  });
});

describe("the sentence", () => {
  const hold = countsOf(9, 3, 1, 0);

  test.each([
    [
      hold,
      "On hold: 3 of at least 8 comparisons are complete, each of 1 run of the new release with 9 of the old one.",
    ],
    [{ ...hold, new_runs: 0, blocks: 0, new_failures: 0 }, "On hold: no run of the new release has ended yet."],
    [
      { ...hold, old_runs: 0, blocks: 0, new_failures: 0 },
      "On hold: no run of the old release has ended yet, so there is nothing to compare with.",
    ],
    [
      { ...hold, new_started: 500, old_started: 100 },
      "On hold: 500 of 600 (83.3%) started runs are of the new release, 10.0% were expected. Until that is explained, failures say nothing.",
    ],
    [
      countsOf(9, 10, 9, 1),
      "Aborted: 9 of 10 (90.0%) runs of the new release failed, 1 of 90 (1.1%) of the old one. A release that fails no more often is aborted in at most 1 of 100 rollouts.",
    ],
    [
      { ...countsOf(9, 50, 3, 20), old_unfinished: 2 },
      "Going on: 3 of 50 (6.0%) runs of the new release failed, 20 of 450 (4.4%) of the old one, where 2 are still running. This does not show that the new release fails more often.",
    ],
  ])("is short, and says what was counted", (counts, sentence) => {
    expect(gateSentence(gateVerdict(counts))).toBe(sentence);
  });

  test("has no number with more than one decimal", () => {
    fc.assert(
      fc.property(anyBlocks, ({ perBlock, blocks, newFailures, oldFailures }) => {
        const sentence = gateSentence(gateVerdict(countsOf(perBlock, blocks, newFailures, oldFailures)));
        expect(sentence).not.toMatch(/\d\.\d\d|NaN|Infinity|e\+/);
      }),
    );
  });
});

test("a mean of evidence is exact where the values themselves would overflow", () => {
  expect(logMean([5_000, 5_000])).toBe(5_000);
  expect(logMean([-90_000, -90_000 + Math.log(3)])).toBeCloseTo(-90_000 + Math.log(2), 9);
  expect(logMean([0, -1e9])).toBeCloseTo(Math.log(0.5), 12);
});
