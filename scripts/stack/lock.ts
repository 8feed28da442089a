// The lock of a state folder: one stack at a time. Called by `npm start`, and by benchmarks that keep a folder; other stacks have
// a folder of their own.

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
    const command = Number.isInteger(holder) && holder > 0 ? stackCommand(holder) : null;
    if (attempt > 0 || command !== null) {
      throw new StackFailure(
        `Another ${command ?? "stack"} (process ${holder}) is running on ${folder}.`,
        `Use that one, or stop it first (Ctrl-C there, or: kill ${holder}).`,
      );
    }
    rmSync(path, { force: true });
  }
}

/** What runs a stack in the process of that id, or null where it is none, as far as the system tells: ids are used again. */
function stackCommand(pid: number): string | null {
  if (!isRunning(pid)) return null;
  const commandPath = `/proc/${pid}/cmdline`;
  if (!existsSync(commandPath)) return "stack";
  const command = readFileSync(commandPath, "utf8");
  if (command.includes("bench.ts")) return "npm run bench";
  return command.includes("start.ts") ? "npm start" : null;
}
