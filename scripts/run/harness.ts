// What benchmarks and drills have alike: a durable stack for the time of a run, progress for a person who waits, Ctrl-C, and a
// file for the result that is looked at before and not behind the minutes. Called by scripts/bench.ts and scripts/drill.ts.

import { randomBytes } from "node:crypto";
import { accessSync, constants, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import type { Bench } from "../bench/benchmark.ts";
import { requireDurable } from "../bench/machine.ts";
import { describeFailure } from "../stack/failure.ts";
import { removeState, startStack } from "../stack/index.ts";
import { acquireLock } from "../stack/lock.ts";
import { projectFolder } from "../stack/workers.ts";

/** Throws TypeError where `--json FILE` cannot be written. */
export function requireWritable(file: string): void {
  const folder = dirname(resolve(file));
  try {
    accessSync(folder, constants.W_OK);
  } catch (error) {
    throw new TypeError(`--json: the folder ${folder} cannot be written.`, { cause: error });
  }
}

/** On one line of a terminal; elsewhere a line each time that the words change. */
export function progressOf(prefix: string): (words: string) => void {
  let last = "";
  return (words) => {
    if (process.stderr.isTTY) process.stderr.write(`\r\u001b[2K${prefix}${words}`);
    else if (words.replaceAll(/\d+/g, "") !== last) process.stderr.write(`${prefix}${words}\n`);
    last = words.replaceAll(/\d+/g, "");
  };
}

/** Aborted by the signals that ask this process to end. */
export function interruption(): AbortSignal {
  const interrupted = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => interrupted.abort(new Error(`interrupted by ${signal}`)));
  }
  return interrupted.signal;
}

/** Says on standard error why a run ended early; answers the exit code. */
export function toldFailure(error: unknown, interrupted: AbortSignal): number {
  if (process.stderr.isTTY) process.stderr.write("\n");
  process.stderr.write(`${interrupted.aborted ? "interrupted; everything is stopped" : describeFailure(error)}\n`);
  return interrupted.aborted ? 130 : 1;
}

export interface StackWish {
  /** A state folder that stays; null: a new one, which goes. */
  readonly kept: string | null;
  /** Other workers than the product's, by their wrangler.toml, made in `folder`. */
  workerConfigs?(folder: string): string[];
  readonly edgeBEntry?: string;
}

/** On a disk, and so not in the folder for temporary files, which may be in memory. Answers PostgreSQL's version, too. */
export async function onStack<T>(
  wish: StackWish,
  signal: AbortSignal,
  progress: (words: string) => void,
  run: (bench: Bench) => Promise<T>,
): Promise<{ outcome: T; postgres: string }> {
  const { kept } = wish;
  const folder = kept ?? join("/var/tmp", `maestro-bench-${randomBytes(6).toString("hex")}`);
  const died = new AbortController();
  const releaseLock = kept === null ? () => {} : acquireLock(kept);
  progress("starting a stack");
  try {
    // Not ephemeral: such a stack runs PostgreSQL without fsync.
    const stack = await startStack({
      folder,
      ...(wish.workerConfigs === undefined ? {} : { workerConfigs: wish.workerConfigs(folder) }),
      ...(wish.edgeBEntry === undefined ? {} : { edgeBEntry: wish.edgeBEntry }),
      onDeath: (who, how) => died.abort(new Error(`${who} ended with ${how}`)),
    });
    try {
      const postgres = await requireDurable(stack);
      const outcome = await run({ stack, signal: AbortSignal.any([signal, died.signal]), progress });
      return { outcome, postgres };
    } finally {
      await stack.stop();
    }
  } finally {
    if (kept === null) removeState(folder);
    releaseLock();
  }
}

/** `reports`: by their path under docs/evidence/. */
export function writeEvidence(reports: Readonly<Record<string, string | Uint8Array>>): void {
  for (const [name, content] of Object.entries(reports)) {
    const path = join(projectFolder, "docs", "evidence", name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content);
  }
}
