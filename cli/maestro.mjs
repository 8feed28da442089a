#!/usr/bin/env node
// Entry of `maestro` on whatever Node the machine has (20 or newer): hands over to the project's own Node 24, with
// signals and exit code passed through. Called by npx and by npm's bin link.

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { constants } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const program = process.platform === "win32" ? "node.exe" : "node";
const node = join(here, "..", "node_modules", "node", "bin", program);

if (existsSync(node)) {
  const child = spawn(node, ["--disable-sigusr1", join(here, "main.ts"), ...process.argv.slice(2)], {
    stdio: "inherit",
  });
  // Ctrl-C reaches the whole foreground group; a signal sent to this process alone has to be handed on.
  for (const signal of ["SIGTERM", "SIGHUP", "SIGINT"]) {
    process.on(signal, () => {
      if (signal !== "SIGINT" || !process.stdin.isTTY) child.kill(signal);
    });
  }
  child.on("error", (error) => {
    process.stderr.write(
      `maestro: Node 24 could not be started (${error.code}); run \`npm ci\` in the project's folder.\n`,
    );
    process.exitCode = 1;
  });
  child.on("exit", (code, signal) => {
    process.exitCode = code ?? 128 + (constants.signals[signal] ?? 0);
  });
} else {
  process.stderr.write(
    "maestro: Node 24 is not installed here yet; run `npm ci` (or `npm start`) in the project's folder.\n",
  );
  process.exitCode = 1;
}
