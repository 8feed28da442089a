// `npm test` (all), `npm run test:deep` (the same suites at full count) and `npm run check` (the fast part). Runs every
// check and every suite in a process group of its own, a few at a time, tells each one's result, and looks for processes
// left behind. The last line is `N passed, N failed`: tests, and each check counted as one.

import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { endGroupsOnSignals, findLeftovers, runGroup, runMark } from "./run/group.ts";
import { sampleSeed } from "../test/support/sampled.ts";
import { countTests, type Count } from "./run/vitest-report.ts";

const checkMsMax = 180_000;
const suiteMsMax = 1_500_000;
const suiteDeepMsMax = 4 * 3_600_000;
const atOnce = 2;
/** How much of a failed command's output is shown; all of it stays in the file that is named. */
const linesShown = 120;

const node = process.execPath;

/**
 * Compilers and linter are Go's. On several threads they look at some of the files twice, and the other processor has work
 * of its own; and what they keep is needed to the end, so collecting garbage is for nothing below so much memory.
 */
const checkEnv = { GOMAXPROCS: "1", GOGC: "off", GOMEMLIMIT: "1500MiB" };
const checks: readonly (readonly [name: string, ...command: [string, ...string[]]])[] = [
  ["types: cli, scripts, tests", "tsc", "--singleThreaded", "-p", "tsconfig.json"],
  ["types: shared", "tsc", "--singleThreaded", "-p", "shared/tsconfig.json"],
  ["types: workers", "tsc", "--singleThreaded", "-p", "workers/tsconfig.json"],
  ["types: tests in workerd", "tsc", "--singleThreaded", "-p", "test/workerd/tsconfig.json"],
  ["lint", "oxlint", "--deny-warnings"],
  ["format", "oxfmt", "--check"],
  ["dead code", "knip"],
  ["walls", node, "scripts/check-walls.ts"],
  ["generated files", node, "scripts/check-generated.ts"],
  ["lockfile", node, "scripts/check-lock.ts"],
];

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: { deep: { type: "boolean", default: false }, fast: { type: "boolean", default: false } },
  });
  endGroupsOnSignals();
  const started = performance.now();
  const folder = mkdtempSync(join(tmpdir(), "maestro-test-"));
  const mark = randomBytes(8).toString("hex");
  const bundles = join(folder, "bundles");
  const sample = { MAESTRO_SAMPLE: sampleSeed };
  const env = { [runMark]: mark, MAESTRO_BUNDLES: bundles, ...(values.deep ? { MAESTRO_DEEP: "1" } : sample) };
  const total = { passed: 0, failed: 0 };

  const tell = (name: string, count: Count, ms: number, output: string, outputPath: string): void => {
    total.passed += count.passed;
    total.failed += count.failed;
    const tests = count.passed + count.failed > 1 ? `  ${count.passed} passed, ${count.failed} failed` : "";
    console.log(
      `${count.failed === 0 ? "ok    " : "FAILED"}  ${name.padEnd(28)} ${(ms / 1000).toFixed(1).padStart(6)} s${tests}`,
    );
    if (count.failed === 0) return;
    const lines = output.trimEnd().split("\n");
    // Vitest's own account of what failed, where there is one; else the end.
    const account = lines.findIndex((line) => /⎯ (?:Failed (?:Tests|Suites) \d+|Unhandled Errors) ⎯/.test(line));
    const from = account < 0 ? Math.max(0, lines.length - linesShown) : account;
    const shown = lines.slice(from, from + linesShown);
    if (shown.length < lines.length) console.log(`  … ${lines.length - shown.length} more lines are in ${outputPath}`);
    for (const line of shown) console.log(`  ${line}`);
  };

  const runSuite = async (suite: string): Promise<void> => {
    const reportPath = join(folder, `${suite}.json`);
    const outputPath = join(folder, `${suite}.log`);
    const { status, ms, timedOut, output } = await runGroup(
      [
        "vitest",
        "run",
        "--project",
        suite,
        "--passWithNoTests",
        "--reporter=default",
        "--reporter=json",
        `--outputFile.json=${reportPath}`,
      ],
      { outputPath, env: { ...env, NO_COLOR: "1" }, timeoutMs: values.deep ? suiteDeepMsMax : suiteMsMax },
    );
    const count = countTests(reportPath, status, timedOut);
    tell(`tests: ${suite}`, count, ms, output, outputPath);
    if (count.skipped.length > 0) console.log(`        ${count.skipped.length} skipped: ${count.skipped.join("; ")}`);
  };

  const queue = [...checks];
  const runCheck = async (name: string, ...command: [string, ...string[]]): Promise<void> => {
    const outputPath = join(folder, `${name.replaceAll(/[^a-z]+/g, "-")}.log`);
    const { status, ms, timedOut, output } = await runGroup(command, {
      outputPath,
      env: { ...env, ...checkEnv },
      timeoutMs: checkMsMax,
    });
    const ok = status === 0 && !timedOut;
    tell(
      name,
      { passed: ok ? 1 : 0, failed: ok ? 0 : 1 },
      ms,
      timedOut ? `${output}\nno end within ${checkMsMax} ms` : output,
      outputPath,
    );
  };
  const work = async (): Promise<void> => {
    for (let check = queue.shift(); check !== undefined; check = queue.shift()) await runCheck(...check);
  };
  const runSuites = async (suites: readonly string[]): Promise<void> => {
    for (const suite of suites) await runSuite(suite);
  };
  if (values.fast) {
    await Promise.all(Array.from({ length: atOnce }, work));
    await runSuite("unit");
  } else {
    // The contract suites mostly wait; everything else, which follows each other beside them, mostly computes.
    const bundled = runCheck("bundles", node, "scripts/run/bundles.ts", bundles);
    await Promise.all([
      bundled.then(() => runSuite("contract")),
      bundled.then(() => runSuite("contract-alone")),
      work().then(() => runSuites(["unit", "simulation", "workerd", "start"])),
    ]);
  }

  if (values.deep) {
    const outputPath = join(folder, "mutants.log");
    const command = [node, "scripts/interop.ts", "--mutants"] as const;
    const { status, ms, timedOut, output } = await runGroup(command, { outputPath, env, timeoutMs: suiteDeepMsMax });
    const ok = status === 0 && !timedOut;
    tell("mutants of SVIDs, by go-spiffe", { passed: ok ? 1 : 0, failed: ok ? 0 : 1 }, ms, output, outputPath);
    for (const line of output.split("\n").filter((one) => one.startsWith("skipped"))) console.log(`        ${line}`);
  }

  // A child that was just told to stop may need a moment.
  let leftovers = findLeftovers(mark);
  for (let waited = 0; leftovers.length > 0 && waited < 20; waited += 1) {
    await sleep(100);
    leftovers = findLeftovers(mark);
  }
  const clean = leftovers.length === 0;
  const listed = leftovers.map(({ pid, command }) => `${pid} ${command}`).join("\n");
  tell("nothing left running", { passed: clean ? 1 : 0, failed: clean ? 0 : 1 }, 0, listed, "");
  for (const { pid } of leftovers) process.kill(pid, "SIGKILL");

  console.log(
    `\n${((performance.now() - started) / 1000).toFixed(0)} s${total.failed === 0 ? "" : `; the logs are in ${folder}`}`,
  );
  if (!values.deep)
    console.log(`of long lists, the sample ${sampleSeed}; the same again: MAESTRO_SAMPLE=${sampleSeed} npm test`);
  console.log(`${total.passed} passed, ${total.failed} failed`);
  if (total.failed === 0) rmSync(folder, { recursive: true, force: true });
  return total.failed === 0 ? 0 : 1;
}

process.exitCode = await main();
