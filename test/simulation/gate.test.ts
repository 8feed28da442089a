// The health gate over seeded rollouts, judged after every run: how often it aborts or holds wrongly, and how soon rightly.
// docs/market/HEALTH_GATE.md shows the same rollouts, 10,000 a scenario; here they are fewer, but for test:deep.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { abortLog10Milli, blocksMin, earlierRunsMin, gateVerdict, ratioLog10Milli } from "../../shared/market/gate.ts";
import { tolerances } from "../../shared/market/sample-ratio.ts";
import { alternatives } from "../../shared/market/sequential-test.ts";
import { gateTables, parametersDigest, tableRow } from "./gate-report.ts";
import { rolloutsOfTable, scenarios, simulate, type Outcome, type Rollout, type Scenario } from "./gate-rollouts.ts";

const deep = process.env["MAESTRO_DEEP"] === "1";
const rolloutsOf = ({ kind }: Scenario): number =>
  deep ? rolloutsOfTable : kind === "no_worse" || kind === "worse" ? 160 : 80;
const page = readFileSync(join(import.meta.dirname, "../../docs/market/HEALTH_GATE.md"), "utf8");

/** The gate itself, asked about where a rollout ended, says what the simulation's shortcut said there. */
function agrees(rollout: Rollout): void {
  const verdict = gateVerdict(rollout.last);
  const held = verdict.ratio_log10_e_milli >= ratioLog10Milli;
  if (held !== rollout.heldAtEnd || (verdict.state === "abort") !== (rollout.abortedAt !== null))
    throw new Error(`the boundary and the gate differ: ${JSON.stringify(verdict)}`);
}

const outcomes = new Map<Scenario, Outcome>();
function outcomeOf(scenario: Scenario): Outcome {
  const outcome =
    outcomes.get(scenario) ??
    simulate(scenario, rolloutsOf(scenario), scenario.model["check"] === "plain" ? undefined : agrees);
  outcomes.set(scenario, outcome);
  return outcome;
}

/** The most of `trials` that a chance of `chance` gives, but for one time in 10^9: the exact binomial tail. */
function mostOf(trials: number, chance: number): number {
  let probability = (1 - chance) ** trials;
  let beyond = 1 - probability;
  let most = 0;
  for (; beyond > 1e-9; most += 1) {
    probability *= ((trials - most) / (most + 1)) * (chance / (1 - chance));
    beyond -= probability;
  }
  return most;
}

const named = (...kinds: Scenario["kind"][]): [string, Scenario][] =>
  scenarios
    .filter(({ kind }) => kinds.includes(kind))
    .map((scenario) => [`${scenario.cohort_percent}% cohort, ${scenario.name}`, scenario]);

test("the exact tail is that of a small case computed by hand", () => {
  expect(mostOf(2, 0.5)).toBe(2);
  expect(mostOf(10, 1e-12)).toBe(0);
});

describe("a release that fails no more often is aborted in at most 1 of 100 rollouts", () => {
  test.each(named("no_worse"))("%s", (_, scenario) => {
    const { aborts, rollouts, heldEver } = outcomeOf(scenario);
    expect(aborts.length).toBeLessThanOrEqual(mostOf(rollouts, 10 ** (-abortLog10Milli / 1_000)));
    expect(heldEver).toBeLessThanOrEqual(mostOf(rollouts, 10 ** (-ratioLog10Milli / 1_000)));
  });
});

describe("a release that fails more often is aborted within 500 runs of it", () => {
  test.each(named("worse"))("%s", (_, scenario) => {
    const { aborts, rollouts } = outcomeOf(scenario);
    expect(aborts.length / rollouts).toBeGreaterThan(0.9);
  });

  const always = named("worse").filter(([, { model }]) => model["new_rate"] === 1);
  test.each(always)("half of the time after 10 runs, and mostly after 20, where every run fails: %s", (_, scenario) => {
    const { aborts, rollouts } = outcomeOf(scenario);
    expect(aborts).toHaveLength(rollouts);
    expect(aborts[Math.floor(rollouts / 2)]).toBeLessThanOrEqual(10);
    expect(aborts[Math.floor(0.95 * rollouts)]).toBeLessThanOrEqual(20);
  });
});

describe("runs that start as expected hold no rollout, though installs differ and bursts come", () => {
  test.each(named("ratio").filter(([name]) => !/plain test|1 to 39/.test(name)))("%s", (_, scenario) => {
    const { heldEver, rollouts } = outcomeOf(scenario);
    // Shares of runs and installs are guesses of what volumes will be: a little more than the 1 in 1,000 of a known share.
    expect(heldEver / rollouts).toBeLessThan(0.03);
  });

  test.each(named("ratio").filter(([name]) => name.includes("plain test")))(
    "the plain test would: %s",
    (_, scenario) => {
      const { heldEver, rollouts } = outcomeOf(scenario);
      expect(heldEver / rollouts).toBeGreaterThan(0.5);
    },
  );

  test.each(named("ratio").filter(([name]) => name.includes("1 to 39")))(
    "beyond its bursts, for a while: %s",
    (_, scenario) => {
      const { heldEver, heldAtEnd, rollouts } = outcomeOf(scenario);
      expect(heldEver / rollouts).toBeLessThan(0.25);
      expect(heldAtEnd).toBeLessThan(heldEver / 2);
    },
  );
});

describe("runs that are missing or multiplied by ten on one side hold the rollout", () => {
  test.each(named("mismatch").filter(([name]) => !name.includes("4 times")))("%s", (_, scenario) => {
    const { heldAtEnd, rollouts } = outcomeOf(scenario);
    expect(heldAtEnd / rollouts).toBeGreaterThan(0.85);
  });
});

describe("what the page says the gate cannot do, it cannot do", () => {
  test.each(named("beyond"))("%s", (_, scenario) => {
    const { aborts, rollouts } = outcomeOf(scenario);
    expect(aborts.length).toBeGreaterThan(rollouts / 100);
  });
});

describe("the page", () => {
  test("has tables of the gate, the scenarios and the seeds that are", () => {
    expect(page).toContain(`\`${parametersDigest()}\``);
  });

  test("says the constants in words as they are", () => {
    const { runs, installs } = tolerances;
    for (const words of [
      `fewer than ${blocksMin} complete blocks`,
      `evidence of ${10 ** (abortLog10Milli / 1_000)} or more`,
      `reaches ${(10 ** (ratioLog10Milli / 1_000)).toLocaleString("en")} (`,
      `each of ${alternatives.length} alternatives`,
      `within a factor of ${runs.oddsFactor} of those`,
      `the band is a factor of ${installs.oddsFactor}.`,
      `up to ${runs.burstRuns} runs at once count as one`,
      `fewer than ${earlierRunsMin}, it is`,
    ])
      expect(page.replaceAll(/\s+/g, " ")).toContain(words);
  });

  test("has a row for every scenario, and nothing else between its markers", () => {
    const rows = new Map(page.split("\n").map((line) => [line.split(" | ").slice(0, 2).join(" | "), line]));
    const tables = gateTables((scenario) => rows.get(`| ${scenario.name} | ${scenario.cohort_percent}%`) ?? "none");
    expect(page).toContain(`<!-- gate-table -->\n${tables}\n<!-- /gate-table -->`);
  });

  // All of them in test:deep; otherwise those of regressions that end soon.
  const quick = ({ model }: Scenario): boolean => Number(model["new_rate"] ?? 0) >= 0.5;
  test.each(
    named("no_worse", "worse", "beyond", "ratio", "mismatch").filter(([, scenario]) => deep || quick(scenario)),
  )("shows what comes out again: %s", (_, scenario) => {
    const outcome = deep ? outcomeOf(scenario) : simulate(scenario, rolloutsOfTable);
    expect(page).toContain(`\n${tableRow(scenario, outcome)}\n`);
  });
});
