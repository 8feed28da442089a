// The audit and link keys rotated, and the whole stack started anew, twice, with the command line as a user who trusts the keys that
// were there before.

import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { maestro, testHost } from "../../cli/testing/host.ts";
import { startStack, type Stack } from "../../scripts/stack/index.ts";
import type { SeededTenant } from "../../scripts/stack/seed.ts";

const packageName = "tools/sbom-inventory";
const fixture = resolve(import.meta.dirname, "..", "fixtures", "sbom-inventory");
const lockfile = resolve(import.meta.dirname, "..", "..", "package-lock.json");

let folder: string;
let home: string;
let stack: Stack;
let tenant: SeededTenant;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "maestro-rotation-"));
  home = mkdtempSync(join(tmpdir(), "maestro-rotation-home-"));
  stack = await startStack({ folder });
  tenant = await stack.seedTenant("key-rotation");
}, 120_000);
afterAll(async () => {
  await stack.stop();
  for (const made of [folder, home]) rmSync(made, { recursive: true, force: true });
});

async function restart(): Promise<void> {
  const ports = { api: Number(new URL(stack.apiUrl).port) };
  await stack.stop();
  stack = await startStack({ folder, ports });
}

async function as(role: keyof SeededTenant["keys"], ...argv: string[]) {
  const host = testHost({ home, env: { MAESTRO_API_URL: stack.apiUrl, MAESTRO_API_KEY: tenant.keys[role] } });
  const answer = await maestro(host, ...argv, "--json");
  return { ...answer, words: argv.join(" ") };
}

async function ok(role: keyof SeededTenant["keys"], ...argv: string[]): Promise<Record<string, unknown>> {
  const { words, code, json, err } = await as(role, ...argv);
  expect({ words, code, err: code === 0 ? "" : err }).toEqual({ words, code: 0, err: "" });
  return json();
}

async function run(): Promise<string> {
  const { execution } = await ok("operator", "run", packageName, "input.json", "--out", "out.json");
  return String((execution as Record<string, unknown>)["id"]);
}

test("what was signed before a rotation verifies after it and after a restart, and the keys that old ones endorsed are believed", async () => {
  copyFileSync(lockfile, join(home, "input.json"));
  await ok("publisher", "market", "keygen");
  const release = await ok("publisher", "market", "publish", fixture);
  await ok("reviewer", "market", "review", "approve", String(release["id"]));
  await ok("admin", "market", "entitle", packageName);
  await ok("operator", "market", "install", packageName);
  await ok("admin", "budget", "set", "--limit", "100", "--leak-per-hour", "0");
  const first = await run();
  await ok("auditor", "disclosure", "get", first, "--out", "first.zip");
  const before = await ok("auditor", "audit", "verify");
  const { keys: old } = await ok("auditor", "audit", "keys");

  const link = await ok("auditor", "disclosure", "link", first);
  for (const _ of [1, 2]) {
    for (const kind of ["audit", "link"])
      expect(await ok("admin", "rotation", "start", kind, "--wait", "60")).toMatchObject({ state: "revoked" });
    await restart();
    // A link ends at its time, not with the key that signed it.
    expect((await fetch(String(link["url"]))).status).toBe(200);
    const seen = await as("auditor", "audit", "keys");
    expect([seen.code, seen.err]).toEqual([0, expect.stringContaining("which you trust, endorsed it") as string]);
    await run();
    const verified = await ok("auditor", "audit", "verify");
    expect(verified).toMatchObject({ verdict: "VERIFIED" });
    expect(Number(verified["size"])).toBeGreaterThan(Number(before["size"]));
    expect(await ok("auditor", "disclosure", "verify", "first.zip")).toMatchObject({ verdict: "verified" });
  }
  const { keys: now } = (await ok("auditor", "audit", "keys")) as { keys: Record<string, string>[] };
  const retired = now.filter(({ not_after: end }) => end !== undefined);
  expect(retired).toHaveLength(10);
  const kids = (old as Record<string, string>[]).filter(({ use }) => use !== "release").map(({ kid }) => kid);
  expect(retired.map(({ kid }) => kid)).toEqual(expect.arrayContaining(kids));
});
