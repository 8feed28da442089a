// Runs commands in process groups of their own, with their output in files, and finds what they left running. Called by
// scripts/test.ts and scripts/interop.ts. Output goes to files since a child's child that holds a pipe keeps its reader
// waiting for ever.

import { spawn, spawnSync } from "node:child_process";
import { closeSync, existsSync, openSync, readdirSync, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { projectFolder } from "../stack/workers.ts";

/** Every process of a run inherits this variable with the run's own value. */
export const runMark = "MAESTRO_RUN";

export interface Outcome {
  readonly status: number | null;
  readonly ms: number;
  readonly timedOut: boolean;
  readonly output: string;
}

const running = new Set<number>();

export async function runGroup(
  command: readonly [string, ...string[]],
  options: { outputPath: string; env: Readonly<Record<string, string>>; timeoutMs: number },
): Promise<Outcome> {
  const started = performance.now();
  const output = openSync(options.outputPath, "w", 0o600);
  const [name, ...args] = command;
  const child = spawn(name, args, {
    cwd: projectFolder,
    detached: true,
    stdio: ["ignore", output, output],
    env: {
      ...process.env,
      PATH: `${join(projectFolder, "node_modules/.bin")}${delimiter}${process.env["PATH"]}`,
      ...options.env,
    },
  });
  closeSync(output);
  const { pid } = child;
  if (pid !== undefined) running.add(pid);
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    if (pid !== undefined) endGroup(pid, "SIGKILL");
  }, options.timeoutMs);
  const status = await new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => resolve(code));
  });
  clearTimeout(timer);
  if (pid !== undefined) running.delete(pid);
  return { status, ms: performance.now() - started, timedOut, output: readFileSync(options.outputPath, "utf8") };
}

function endGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

/** Ends what is running when this process is asked to end. */
export function endGroupsOnSignals(): void {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => {
      for (const pid of running) endGroup(pid, "SIGTERM");
      process.stderr.write(`\nstopped by ${signal}\n`);
      process.exitCode = 130;
      // Children get the time to stop theirs; then they go.
      setTimeout(() => {
        for (const pid of running) endGroup(pid, "SIGKILL");
        process.exit(130);
      }, 5_000);
    });
  }
}

export interface Leftover {
  readonly pid: number;
  readonly command: string;
}

/** The processes that carry this run's mark in their environment, this one aside. */
export function findLeftovers(mark: string): Leftover[] {
  const wanted = `${runMark}=${mark}`;
  const found = existsSync("/proc/self/environ") ? markedInProc(wanted) : markedByPs(wanted);
  return found.filter(({ pid }) => pid !== process.pid);
}

function markedInProc(wanted: string): Leftover[] {
  return readdirSync("/proc").flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      if (!readFileSync(`/proc/${name}/environ`, "utf8").split("\0").includes(wanted)) return [];
      return [
        { pid: Number(name), command: readFileSync(`/proc/${name}/cmdline`, "utf8").replaceAll("\0", " ").trim() },
      ];
    } catch {
      // It has ended in between, or is another user's.
      return [];
    }
  });
}

function markedByPs(wanted: string): Leftover[] {
  const { stdout } = spawnSync("ps", ["-axEww", "-o", "pid=,command="], {
    encoding: "utf8",
    maxBuffer: 64 * 1024 * 1024,
  });
  return (stdout ?? "").split("\n").flatMap((line) => {
    const [, pid, command] = /^\s*(\d+)\s+(.*)$/.exec(line) ?? [];
    return pid !== undefined && command?.split(" ").includes(wanted)
      ? [{ pid: Number(pid), command: command.slice(0, 200) }]
      : [];
  });
}
