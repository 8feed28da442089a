// Entry of `maestro` on Node 24; cli/maestro.mjs starts it. Fills the host from the process and sets the exit code.

import { enableCompileCache } from "node:module";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { exitCodeOf } from "./exit-codes.ts";
import { NotWritten } from "./folders.ts";
import type { Host } from "./host.ts";

// Half of the time until the first line of work is compiling; where the folder cannot be written, Node goes without.
enableCompileCache(join(import.meta.dirname, "..", "node_modules", ".cache", "maestro"));
const { runMaestro } = await import("./program.ts");

const interruption = new AbortController();

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => {
    // The second time the person means it: no more tidying up.
    if (interruption.signal.aborted) process.exit(exitCodeOf("interrupted"));
    interruption.abort();
  });
}

// `maestro … | head`: the reader has left, which is not an error. A disk that is full behind `>` is one.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0);
  process.stderr.write(`error: ${new NotWritten("The output", error.code ?? "unknown").message}\n`);
  process.exit(exitCodeOf("failure"));
});
process.stderr.on("error", (error: NodeJS.ErrnoException) => {
  process.exit(error.code === "EPIPE" ? 0 : exitCodeOf("failure"));
});

const host: Host = {
  env: process.env,
  cwd: process.cwd(),
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  stdoutIsTerminal: process.stdout.isTTY,
  stderrIsTerminal: process.stderr.isTTY,
  interrupted: interruption.signal,
  now: Date.now,
  sleep: async (ms, signal) => {
    await delay(ms, undefined, signal === undefined ? {} : { signal });
  },
};

process.exitCode = await runMaestro(process.argv.slice(2), host);
// stdin read in part (a prompt) would keep the process alive.
process.stdin.destroy();
