// The lock of a state folder: one stack at a time. Called by `npm start`; ephemeral stacks have a folder of their own.

import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { StackFailure } from "./failure.ts";
import { isRunning } from "./keeper.ts";

const lockName = "lock";

/** Throws a StackFailure while another stack holds the folder. A lock whose process is gone counts for nothing. */
export function acquireLock(folder: string): () => void {
  mkdirSync(folder, { recursive: true });
  const path = join(folder, lockName);
  for (let attempt = 0; ; attempt += 1) {
    try {
      writeFileSync(path, `${process.pid}\n`, { flag: "wx", mode: 0o600 });
      return () => rmSync(path, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") {
        throw new StackFailure(
          `The state folder ${folder} cannot be written: ${(error as Error).message}.`,
          "Give this user the folder, or choose another one: npm start -- --state DIR",
          { cause: error },
        );
      }
    }
    const holder = Number(readFileSync(path, "utf8"));
    if (attempt > 0 || (Number.isInteger(holder) && holder > 0 && isStack(holder))) {
      throw new StackFailure(
        `Another npm start (process ${holder}) is running on ${folder}.`,
        `Use that one, or stop it first (Ctrl-C there, or: kill ${holder}).`,
      );
    }
    rmSync(path, { force: true });
  }
}

/** A process of that id runs and, where the system tells, it is a Node: ids are used again. */
function isStack(pid: number): boolean {
  if (!isRunning(pid)) return false;
  const commandPath = `/proc/${pid}/cmdline`;
  return !existsSync(commandPath) || readFileSync(commandPath, "utf8").includes("start.ts");
}
