// The keeper: a small process of its own that ends the stack's children when the stack's own process dies without
// saying so (kill -9, out of memory). Started by startStack; talks over its standard input.
//   +PID    watch this process         -PID   it has ended, forget it
//   rm DIR  remove this folder, too    done   all is well, go
// End of input without `done` means that the parent died.

import { spawn, type ChildProcess } from "node:child_process";
import { rmSync } from "node:fs";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const graceMs = 5_000;
const pollMs = 50;

export interface Keeper {
  watch(pid: number): void;
  forget(pid: number): void;
  /** Names a folder that is to go when the parent dies: ephemeral stacks only. */
  removeFolder(folder: string): void;
  /** Resolves when the keeper has gone. */
  close(): Promise<void>;
}

export function startKeeper(): Keeper {
  const child: ChildProcess = spawn(process.execPath, [fileURLToPath(import.meta.url)], {
    cwd: "/",
    detached: true,
    stdio: ["pipe", "ignore", "ignore"],
    env: {},
  });
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  // EPIPE: the keeper is gone already, and there is nothing left for it to do.
  child.stdin?.on("error", () => {});
  child.unref();
  const say = (line: string): void => void child.stdin?.write(`${line}\n`);
  return {
    watch: (pid) => say(`+${pid}`),
    forget: (pid) => say(`-${pid}`),
    removeFolder: (folder) => say(`rm ${folder}`),
    async close() {
      child.ref();
      child.stdin?.end("done\n");
      await ended;
    },
  };
}

export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** Asks `pid` to end with SIGINT (PostgreSQL's fast shutdown), then ends it. False where it was not there. */
export async function endProcess(pid: number): Promise<boolean> {
  if (!isRunning(pid)) return false;
  process.kill(pid, "SIGINT");
  for (let waitedMs = 0; waitedMs < graceMs; waitedMs += pollMs) {
    if (!isRunning(pid)) return true;
    await sleep(pollMs);
  }
  if (isRunning(pid)) process.kill(pid, "SIGKILL");
  return true;
}

async function keep(): Promise<void> {
  const watched = new Set<number>();
  const folders = new Set<string>();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => {});
  for await (const line of createInterface({ input: process.stdin })) {
    if (line === "done") process.exit(0);
    else if (line.startsWith("rm ")) folders.add(line.slice(3));
    else if (line.startsWith("+")) watched.add(Number(line.slice(1)));
    else if (line.startsWith("-")) watched.delete(Number(line.slice(1)));
  }
  await Promise.all([...watched].map(endProcess));
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await keep();
