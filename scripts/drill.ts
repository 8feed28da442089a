// `npm run drill -- NAME [--json FILE] [--evidence]`: a drill, on a new durable stack: something is done to the product while it is
// under load, and the figures go to standard output, and to FILE. docs/BENCHMARKS.md has the figures and what they mean.

import { writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { loadAverage, machineFacts } from "./bench/machine.ts";
import { cdnSwap } from "./drill/cdn-swap.ts";
import { isMet, type Drill, type DrillResult } from "./drill/drill.ts";
import { keyRotation } from "./drill/key-rotation.ts";
import { interruption, onStack, progressOf, requireWritable, toldFailure, writeEvidence } from "./run/harness.ts";

const drills: Readonly<Record<string, Drill>> = { "cdn-swap": cdnSwap, "key-rotation": keyRotation };

const help = `npm run drill -- NAME [--json FILE] [--evidence]

${Object.entries(drills)
  .map(([name, { about }]) => `  ${name.padEnd(12)} ${about}`)
  .join("\n")}

  --json FILE   write the result to FILE
  --evidence    also write the report under docs/evidence/
`;

interface Asked {
  readonly name: string;
  readonly drill: Drill;
  readonly json: string | undefined;
  readonly evidence: boolean;
}

function readArguments(args: string[]): Asked | null {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      json: { type: "string" },
      evidence: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) return null;
  const [name, ...rest] = positionals;
  const drill = name === undefined || !Object.hasOwn(drills, name) ? undefined : drills[name];
  if (name === undefined || drill === undefined || rest.length > 0) {
    const asked = positionals.length === 0 ? "Name a drill." : `There is no drill "${positionals.join(" ")}".`;
    throw new TypeError(`${asked} There are: ${Object.keys(drills).join(", ")}.`);
  }
  if (values.json !== undefined) requireWritable(values.json);
  return { name, drill, json: values.json, evidence: values.evidence };
}

function table(result: DrillResult): string {
  const goals = result.goals.map(({ figure, measured, met }) => `${met ? "met   " : "MISSED"}  ${figure}  ${measured}`);
  const parts = Object.entries(result.parts).flatMap(([part, figures]) =>
    Object.entries(figures).map(([figure, value]) => `${part}  ${figure}  ${value}`),
  );
  return [...parts, "", ...goals].join("\n");
}

async function main(): Promise<number> {
  let asked: Asked | null;
  try {
    asked = readArguments(process.argv.slice(2));
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n→ npm run drill -- --help\n`);
    return 2;
  }
  if (asked === null) {
    process.stdout.write(help);
    return 0;
  }

  const interrupted = interruption();
  const { name, drill, evidence } = asked;
  const startedAt = new Date().toISOString();
  const before = loadAverage();
  let result: DrillResult;
  try {
    const progress = progressOf(`${name}  `);
    const { outcome, postgres } = await onStack({ kept: null }, interrupted, progress, (bench) =>
      drill.run(bench, evidence),
    );
    const { headline, parts, faults, record } = outcome;
    const goals = drill.goals.map((goal) => {
      const measured = headline[goal.figure];
      if (measured === undefined) throw new Error(`the drill ${name} did not measure ${goal.figure}`);
      return { ...goal, measured, met: isMet(goal, measured) };
    });
    result = {
      drill: name,
      ok: faults.length === 0,
      faults,
      ...headline,
      started_at: startedAt,
      machine: { ...machineFacts(), postgres, fsync: "on", load_average_before: before },
      settings: drill.settings,
      goals,
      parts,
    };
    if (asked.json !== undefined) writeFileSync(resolve(asked.json), `${JSON.stringify(result, null, 2)}\n`);
    if (evidence) {
      progress("the evidence");
      writeEvidence(await drill.evidence(result, interrupted, record ?? {}));
    }
  } catch (error) {
    return toldFailure(error, interrupted);
  }
  if (process.stderr.isTTY) process.stderr.write("\r\u001b[2K");
  process.stdout.write(`${table(result)}\n`);
  for (const fault of result.faults) process.stderr.write(`${fault}\n`);
  return result.faults.length === 0 ? 0 : 1;
}

process.exitCode = await main();
