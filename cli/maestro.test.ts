// The shim as a person starts it: a real process, its exit code, its signals.

import { execFileSync, spawn } from "node:child_process";
import { cpSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { testFolder } from "./testing/host.ts";
import { apiKey, market } from "./testing/market.ts";
import { testServer } from "./testing/server.ts";

const shim = resolve(import.meta.dirname, "maestro.mjs");

function start(path: string, args: readonly string[], env: Record<string, string> = {}) {
  const child = spawn(process.execPath, [path, ...args], {
    env: { HOME: testFolder(), ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let [out, err] = ["", ""];
  child.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (err += chunk.toString()));
  const ended = new Promise<{ code: number | null; out: string; err: string }>((resolve) =>
    child.on("close", (code) => resolve({ code, out, err })),
  );
  return { child, ended };
}

/** What runs on this machine now (Linux; elsewhere `ps` says it too). */
const commandLines = (): string[] => execFileSync("ps", ["-A", "-o", "args="], { encoding: "utf8" }).split("\n");

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await delay(50);
}

test("the shim hands over arguments, output and exit code", async () => {
  expect((await start(shim, ["help", "exit-codes"]).ended).out).toContain("verification_failed");
  expect((await start(shim, ["whoami"]).ended).code).toBe(3);
  expect((await start(shim, ["--nothing"]).ended).code).toBe(2);
});

test("without Node 24 beside it the shim says what to run, in one sentence", async () => {
  const folder = testFolder();
  mkdirSync(join(folder, "cli"));
  cpSync(shim, join(folder, "cli", "maestro.mjs"));
  const { code, err } = await start(join(folder, "cli", "maestro.mjs"), ["whoami"]).ended;
  expect(code).toBe(1);
  expect(err.trim().split("\n")).toHaveLength(1);
  expect(err).toContain("npm ci");
});

test("a signal to the shim reaches the command, which ends by itself with exit code 130", async () => {
  const server = await testServer();
  const { child, ended } = start(shim, ["whoami"], { MAESTRO_API_URL: server.url, MAESTRO_API_KEY: apiKey });
  server.on("GET /api/whoami", () => void child.kill("SIGTERM"));
  const { code, err } = await ended;
  expect(code).toBe(130);
  expect(err).toContain("Interrupted");
});

test("Ctrl-C during a run kills the package, records the failure, and leaves no process", async () => {
  const server = await market({ source: "setInterval(() => {}, 1000)" });
  const input = join(testFolder(), "input");
  writeFileSync(input, "x");
  const temporary = testFolder();
  const env = { MAESTRO_API_URL: server.url, MAESTRO_API_KEY: apiKey, TMPDIR: temporary };
  const { child, ended } = start(shim, ["run", "tools/sample", input], env);
  const running = (): string[] =>
    commandLines().filter((line) => line.includes(temporary) && line.includes("main.mjs"));
  await until(() => running().length > 0);
  child.kill("SIGINT");
  const { code } = await ended;
  expect(code).toBe(130);
  expect(server.finishes).toEqual([{ outcome: "failed", exit_code: null, output_sha256: null }]);
  await until(() => running().length === 0);
  expect(readdirSync(temporary)).toEqual([]);
});
