// The report of the drill for people: what was done, each goal with what was measured, and what became of each attack. Pure;
// called by cdn-swap.ts.

import type { AttackResult } from "./fail-closed.ts";
import type { DrillResult, Goal } from "./drill.ts";

const words: Readonly<Record<Goal["is"], string>> = { at_most: "≤", under: "<", over: ">" };

export function swapReport(result: DrillResult, attacks: readonly AttackResult[]): string {
  const { machine, settings, started_at: startedAt } = result;
  const s = (name: string): string => `${Number(settings[name]) / 1_000} s`;
  const goals = result.goals.map(
    ({ figure, is, limit, measured, met }) =>
      `| \`${figure}\` | ${measured} | ${words[is]} ${limit} | ${met ? "met" : "NOT met"} |`,
  );
  const figures = Object.entries(result.parts).flatMap(([part, members]) =>
    Object.entries(members).map(([figure, value]) => `| ${part} | \`${figure}\` | ${value} |`),
  );
  const held = attacks.filter((attack) => attack.held).length;
  return `# CDN swap drill and fail-closed results (MC-EDGE-1931, MC-EDGE-1932)

Run ${startedAt} by \`npm run drill -- cdn-swap --evidence\`: ${String(machine["cores"])} cores of ${String(machine["processor"])}, workerd
${String(machine["workerd"])}, on which the whole product, both providers' edges and the load ran together. ADR-1230 has the method.

${String(settings["fetches_per_s"])} fetches/s of current bytes for ${s("duration_ms")}, ${String(settings["policies"])} policies by Zipf, a publish each ${s("publish_every_ms")}. Provider A is silent
from ${s("a_frozen_ms")} to ${s("a_thawed_ms")}, is then ${s("a_caught_up_ms")} into the run still at what it had at ${s("a_frozen_ms")}; provider B is dead from ${s("b_killed_ms")} on.

| figure | measured | goal | |
|---|---|---|---|
${goals.join("\n")}

## Everything that was measured
\`edge\` is the fetcher of this project, \`plain\` a client with a timeout of a second and failover, through the same minute once more.

| part | figure | value |
|---|---|---|
${figures.join("\n")}

## Fail closed
${held} of ${attacks.length} attacks and failures were met as promised: refused, counted, explained, and the last good policy kept.

| what is promised | |
|---|---|
${attacks.map(({ attack, held: isHeld }) => `| ${attack.replaceAll("|", "\\|")} | ${isHeld ? "held" : "DID NOT HOLD"} |`).join("\n")}
`;
}
