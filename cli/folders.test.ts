// What `maestro` says where it cannot write: every command that writes a file, at places that take none.

import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, test } from "vitest";
import { exitCodes } from "./exit-codes.ts";
import { makeFolder, writePrivate } from "./folders.ts";
import { maestro, testFolder, testHost, type TestHost } from "./testing/host.ts";
import { apiKey } from "./testing/market.ts";
import { testServer } from "./testing/server.ts";

const fixture = resolve(import.meta.dirname, "../test/fixtures/sbom-inventory");
const id = "spiffe://mc.local/tenant/demo/auditor/ci";

interface Writer {
  readonly argv: readonly string[];
  /** What it is given is a folder: another one takes its files. */
  readonly writesInto?: true;
}

/** Each with the place behind it; the authority is beside the host. */
const writers: readonly Writer[] = [
  { argv: ["market", "pack", fixture, "--out"] },
  { argv: ["keys", "create", "--role", "viewer", "--out"] },
  { argv: ["pql", "FIND events SINCE 1h", "--format", "json", "--out"] },
  { argv: ["policy", "root", "show", "--out"] },
  { argv: ["disclosure", "get", "exe_01k9x6f6c8a0b1c2d3e4f5g6h7", "--out"] },
  { argv: ["run", "tools/sbom-inventory", "input", "--out"] },
  { argv: ["audit", "keys", "--out"] },
  { argv: ["audit", "verify", "--out"], writesInto: true },
  { argv: ["svid", "mint", "--authority", "authority", "--id", id, "--out"], writesInto: true },
  { argv: ["svid", "authority", "init", "--trust-domain", "mc.local"], writesInto: true },
  { argv: ["edge", "clear", "--tenant", "acme", "--state"], writesInto: true },
  { argv: ["witness", "key", "--state"], writesInto: true },
];

async function preparedHost(): Promise<{ host: TestHost; asked: () => string[] }> {
  const server = await testServer();
  const host = testHost({ env: { MAESTRO_API_URL: server.url, MAESTRO_API_KEY: apiKey } });
  writeFileSync(join(host.home, "input"), "x");
  writeFileSync(join(host.home, "a-file"), "kept");
  mkdirSync(join(host.home, "a-folder"));
  await maestro(host, "svid", "authority", "init", "authority", "--trust-domain", "mc.local");
  return { host, asked: () => server.seen.map(({ method, path }) => `${method} ${path}`) };
}

const places = ["/proc/x", "/proc/x/y/z", "/dev/full", "/dev/full/x", "a-file/x", "a-file/x/y", "x".repeat(300)];

describe.each(writers)("maestro $argv.0 $argv.1", ({ argv, writesInto }) => {
  test.each([...places, writesInto === true ? "a-file" : "a-folder"])(
    "says what is wrong with %s and ends, before the API is asked",
    async (place) => {
      const { host, asked } = await preparedHost();
      const before = readdirSync(host.home, { recursive: true });
      const { code, err, json } = await maestro(host, ...argv, place, "--json");
      expect(err).toMatch(
        /^error: \S+ (?:cannot be written: [a-z ]+ \(E[A-Z]+\)|is there already, and is not a f\w+)\n/,
      );
      expect(err).toContain(/^\/?[^/]+/.exec(place)![0]);
      expect(json()["error"]).toMatchObject({ exit: "usage" });
      expect(code).toBe(2);
      expect(asked()).toEqual([]);
      expect(readdirSync(host.home, { recursive: true })).toEqual(before);
      expect(readFileSync(join(host.home, "a-file"), "utf8")).toBe("kept");
    },
  );
});

test.each([
  ["XDG_CONFIG_HOME", ["market", "keygen"]],
  ["XDG_STATE_HOME", ["edge", "clear", "--tenant", "acme"]],
])("a %s that cannot be written is said by maestro %s", async (variable, argv) => {
  const env = { MAESTRO_API_URL: "http://127.0.0.1:1", MAESTRO_API_KEY: apiKey, [variable]: "/proc/x" };
  const { code, err } = await maestro(testHost({ env }), ...argv);
  expect(err).toContain("error: /proc/x cannot be written: nothing can be made there (ENOENT)");
  expect(code).toBe(2);
});

function inShell(line: string): Promise<{ code: number | null; err: string }> {
  const child = spawn("sh", ["-c", line, process.execPath, resolve(import.meta.dirname, "maestro.mjs")], {
    env: { HOME: testFolder() },
    stdio: ["ignore", "ignore", "pipe"],
  });
  let err = "";
  child.stderr.on("data", (chunk: Buffer) => (err += chunk.toString()));
  return new Promise((done) => child.on("close", (code) => done({ code, err })));
}

test.runIf(existsSync("/dev/full"))("what is printed onto a full disk is no success", async () => {
  const { code, err } = await inShell('exec "$0" "$1" help exit-codes > /dev/full');
  expect(err).toBe("error: The output cannot be written: the disk is full (ENOSPC)\n");
  expect(code).toBe(exitCodes.failure[0]);
});

test("a file that the system ends in the middle leaves nothing, and is said", async () => {
  const out = join(testFolder(), "out.tar.gz");
  const { code, err } = await inShell(`ulimit -f 0; exec "$0" "$1" market pack ${fixture} --out ${out}`);
  expect(err).toMatch(/^error: \S+ cannot be written: the file is too large .*\(EFBIG\)\n$/);
  expect(code).toBe(exitCodes.failure[0]);
  expect(readdirSync(join(out, ".."))).toEqual([]);
});

test("a folder is made with those above it, by several at once, and an old file is replaced whole", async () => {
  const folder = join(testFolder(), "a", "b", "c");
  await Promise.all([1, 2, 3, 4].map(async () => await makeFolder(folder)));
  const path = join(folder, "file");
  for (const content of ["one", "two"]) await writePrivate(path, content);
  expect(readFileSync(path, "utf8")).toBe("two");
  expect(readdirSync(folder)).toEqual(["file"]);
});
