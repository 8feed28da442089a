// The fail-closed results that the drill keeps beside its own: runs the attack tests of the fetcher, and tells what became of each.
// Called by cdn-swap.ts with --evidence.

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { projectFolder } from "../stack/workers.ts";

const suites = ["cli/edge/attacks.test.ts", "cli/edge/held-folder.test.ts"] as const;
const suiteMsMax = 300_000;

export interface AttackResult {
  readonly suite: string;
  /** What is guaranteed, in the words of the test. */
  readonly attack: string;
  readonly held: boolean;
}

/** Throws where the tests cannot be run; an attack that got through is a result. */
export async function failClosed(signal: AbortSignal): Promise<AttackResult[]> {
  const folder = mkdtempSync(join(tmpdir(), "maestro-fail-closed-"));
  const path = join(folder, "report.json");
  try {
    const vitest = join(projectFolder, "node_modules", "vitest", "vitest.mjs");
    const args = [vitest, "run", "--project", "unit", ...suites, "--reporter=json", `--outputFile=${path}`];
    const said = await run(args, signal);
    const report = JSON.parse(readReport(path, said)) as Report;
    const results = report.testResults.flatMap(({ name, assertionResults }) =>
      assertionResults.map(({ fullName, status }) => ({
        suite: name.slice(projectFolder.length + 1),
        attack: fullName,
        held: status === "passed",
      })),
    );
    if (results.length === 0) throw new Error(`the attack tests gave no results: ${said}`);
    return results;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

interface Report {
  readonly testResults: readonly {
    readonly name: string;
    readonly assertionResults: readonly { readonly fullName: string; readonly status: string }[];
  }[];
}

function readReport(path: string, said: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new Error(`the attack tests wrote no report: ${said}`, { cause: error });
  }
}

/** What it said at its end. */
const run = (args: readonly string[], signal: AbortSignal): Promise<string> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, {
      cwd: projectFolder,
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, NO_COLOR: "1" },
      signal,
      timeout: suiteMsMax,
    });
    let said = "";
    for (const stream of [child.stdout, child.stderr])
      stream.on("data", (piece: Buffer) => void (said = (said + piece.toString()).slice(-2_000)));
    child.on("error", reject);
    child.on("close", () => resolve(said));
  });
