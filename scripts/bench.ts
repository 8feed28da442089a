// `npm run bench -- NAME [--json FILE] [--repeats N]`: a benchmark, repeated on a new durable stack each time, or on the one
// that it keeps; medians and spreads go to standard output, and to FILE. docs/BENCHMARKS.md has the figures and what they mean.

import { writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { audit } from "./bench/audit.ts";
import type { Benchmark, Parts } from "./bench/benchmark.ts";
import { edge } from "./bench/edge.ts";
import { identity } from "./bench/identity.ts";
import { chain } from "./bench/chain.ts";
import { market } from "./bench/market.ts";
import { pql } from "./bench/pql.ts";
import { loadAverage, machineFacts } from "./bench/machine.ts";
import { spreads, type Spread } from "./bench/statistics.ts";
import { interruption, onStack, progressOf, requireWritable, toldFailure, writeEvidence } from "./run/harness.ts";

const benchmarks: Readonly<Record<string, Benchmark>> = { audit, chain, edge, identity, market, pql };
const repeatsMax = 20;

const help = `npm run bench -- NAME [--json FILE] [--repeats N]

${Object.entries(benchmarks)
  .map(([name, { about }]) => `  ${name.padEnd(10)} ${about}`)
  .join("\n")}

  --json FILE   write the result to FILE
  --repeats N   how often, each on a stack of its own unless one is kept; 3 unless told
  --evidence    also write the report of a benchmark that has one under docs/evidence/
`;

interface Asked {
  readonly name: string;
  readonly benchmark: Benchmark;
  readonly json: string | undefined;
  readonly repeats: number;
  readonly evidence: boolean;
}

function readArguments(args: string[]): Asked | null {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      json: { type: "string" },
      repeats: { type: "string", default: "3" },
      evidence: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
    },
  });
  if (values.help) return null;
  const [name, ...rest] = positionals;
  const benchmark = name === undefined || !Object.hasOwn(benchmarks, name) ? undefined : benchmarks[name];
  if (name === undefined || benchmark === undefined || rest.length > 0) {
    const asked = positionals.length === 0 ? "Name a benchmark." : `There is no benchmark "${positionals.join(" ")}".`;
    throw new TypeError(`${asked} There are: ${Object.keys(benchmarks).join(", ")}.`);
  }
  const repeats = Number(values.repeats);
  if (!Number.isInteger(repeats) || repeats < 1 || repeats > repeatsMax)
    throw new TypeError(`--repeats is a whole number, 1 to ${repeatsMax}, not ${values.repeats}.`);
  if (values.json !== undefined) requireWritable(values.json);
  if (values.evidence && benchmark.evidence === undefined)
    throw new TypeError(`--evidence: the benchmark "${name}" has no report to keep.`);
  return { name, benchmark, json: values.json, repeats, evidence: values.evidence };
}

function spreadsOf(runs: readonly Parts<number>[]): Parts<Spread> {
  return Object.fromEntries(Object.keys(runs[0]!).map((part) => [part, spreads(runs.map((run) => run[part]!))]));
}

function table(parts: Parts<Spread>): string {
  const rows = Object.entries(parts).flatMap(([part, figures]) =>
    Object.entries(figures).map(([figure, { median, min, max }]) => [part, figure, `${median}`, `${min} – ${max}`]),
  );
  const widths = [0, 1, 2, 3].map((column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

async function main(): Promise<number> {
  let asked: Asked | null;
  try {
    asked = readArguments(process.argv.slice(2));
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n→ npm run bench -- --help\n`);
    return 2;
  }
  if (asked === null) {
    process.stdout.write(help);
    return 0;
  }

  const interrupted = interruption();

  const { name, benchmark, repeats } = asked;
  const startedAt = new Date().toISOString();
  const runs: { load_average_before: number; parts: Parts<number> }[] = [];
  let postgres = "";
  const kept = benchmark.keptFolder?.() ?? null;
  try {
    for (let repeat = 1; repeat <= repeats; repeat += 1) {
      interrupted.throwIfAborted();
      const before = loadAverage();
      const progress = progressOf(`${name} ${repeat}/${repeats}  `);
      const run = await onStack({ ...benchmark, kept }, interrupted, progress, (bench) => benchmark.run(bench));
      ({ postgres } = run);
      runs.push({ load_average_before: before, parts: run.outcome });
    }
  } catch (error) {
    return toldFailure(error, interrupted);
  }
  if (process.stderr.isTTY) process.stderr.write("\r\u001b[2K");

  const parts = spreadsOf(runs.map((run) => run.parts));
  const faults = benchmark.faults(parts);
  const result = {
    benchmark: name,
    ok: faults.length === 0,
    faults,
    ...benchmark.headline(parts),
    started_at: startedAt,
    machine: { ...machineFacts(), postgres, fsync: "on" },
    settings: { ...benchmark.settings, repeats },
    parts,
    runs,
  };
  if (asked.json !== undefined) writeFileSync(resolve(asked.json), `${JSON.stringify(result, null, 2)}\n`);
  if (asked.evidence) writeEvidence(benchmark.evidence?.(result) ?? {});
  process.stdout.write(`${table(parts)}\n`);
  for (const fault of faults) process.stderr.write(`${fault}\n`);
  return faults.length === 0 ? 0 : 1;
}

process.exitCode = await main();
