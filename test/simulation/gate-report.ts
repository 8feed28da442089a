// The tables of docs/market/HEALTH_GATE.md, made of simulated rollouts: scripts/gate-table.ts prints them, gate.test.ts holds
// the page against them.

import { createHash } from "node:crypto";
import { gateParameters } from "../../shared/market/gate.ts";
import { horizonNewRuns, rolloutsOfTable, scenarios, type Outcome, type Scenario } from "./gate-rollouts.ts";

/** Of everything that the tables depend on, but for the code itself. */
export function parametersDigest(): string {
  const facts = { gate: gateParameters, scenarios, rollouts: rolloutsOfTable, horizon: horizonNewRuns };
  return createHash("sha256").update(JSON.stringify(facts)).digest("hex");
}

const percent = (part: number, whole: number): string => `${((100 * part) / whole).toFixed(2)}%`;
const quantile = (ascending: readonly number[], share: number): string =>
  ascending.length === 0 ? "–" : String(ascending[Math.ceil(ascending.length * share) - 1]);

const judgesStarts = ({ kind }: Scenario): boolean => kind === "ratio" || kind === "mismatch";

/** A scenario's row: of the first table where its runs end, of the second one where they only start. */
export function tableRow(scenario: Scenario, outcome: Outcome): string {
  const { rollouts, aborts, heldEver, heldAtEnd, holds } = outcome;
  const cells = judgesStarts(scenario)
    ? [percent(heldEver, rollouts), percent(heldAtEnd, rollouts), quantile(holds, 0.5)]
    : [percent(aborts.length, rollouts), quantile(aborts, 0.5), quantile(aborts, 0.95), percent(heldEver, rollouts)];
  return `| ${[scenario.name, `${scenario.cohort_percent}%`, ...cells].join(" | ")} |`;
}

const headings: Readonly<Record<Scenario["kind"], string>> = {
  no_worse: "no worse: every abort is a false one",
  worse: "worse: every abort is a detection",
  beyond: "what the guarantee does not cover",
  ratio: "as expected: every hold is a false one",
  mismatch: "not as expected: every hold is a detection",
};

/** Both tables with the digest of what they were made of: all that stands between the page's markers. */
export function gateTables(rowOf: (scenario: Scenario) => string): string {
  const rows = (kind: Scenario["kind"], columns: number): string[] => [
    `| **${headings[kind]}** |${" |".repeat(columns - 1)}`,
    ...scenarios.filter((scenario) => scenario.kind === kind).map(rowOf),
  ];
  return [
    `${rolloutsOfTable.toLocaleString("en")} rollouts a row, each until ${horizonNewRuns} new runs have ended; parameters sha256 \`${parametersDigest()}\`.`,
    "",
    "| failing runs | cohort | aborted | new runs until then, median | p95 | held for the sample ratio |",
    "|---|---|---|---|---|---|",
    ...rows("no_worse", 6),
    ...rows("worse", 6),
    ...rows("beyond", 6),
    "",
    "| starting runs | cohort | held at some time | held at the end | started runs until then, median |",
    "|---|---|---|---|---|",
    ...rows("ratio", 5),
    ...rows("mismatch", 5),
  ].join("\n");
}
