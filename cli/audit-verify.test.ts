// `maestro audit verify` of a folder and of a bucket, as a person has it: what it shows, what it refuses, how it ends.
// test/contract/cli-evidence.test.ts has the API, test/interop/bucket.test.ts a real bucket.

import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { tenantId } from "../test/simulation/audit-events.ts";
import { MutationRoom } from "../test/simulation/verify-mutations.ts";
import { rememberedHead, rememberHead } from "./remembered-heads.ts";
import { maestro, testHost, type TestHost } from "./testing/host.ts";
import { testServer } from "./testing/server.ts";

let room: MutationRoom;
beforeAll(async () => {
  room = await MutationRoom.open();
});

/** A copy of the log in the host's folder `log`, and the keys beside it. */
function copyFor(host: TestHost): void {
  for (const [key, bytes] of room.base.objects) {
    mkdirSync(dirname(join(host.home, "log", key)), { recursive: true });
    writeFileSync(join(host.home, "log", key), bytes);
  }
  writeFileSync(join(host.home, "keys.json"), JSON.stringify(room.base.keys));
}

const verify = async (host: TestHost, ...argv: string[]) =>
  await maestro(host, "audit", "verify", "--keys", "keys.json", ...argv);

test("a folder is verified with a bar that moves, by one thread or more, and its head is remembered", async () => {
  const host = testHost({ terminal: true });
  copyFor(host);
  const first = await verify(host, "--dir", "log", "--threads", "1");
  expect([first.code, first.out]).toEqual([0, expect.stringContaining(`VERIFIED-TO`)]);
  expect(first.err).toMatch(/rows \[#+\.*\] \d+%/);
  expect((await verify(host, "--dir", "log", "--threads", "2")).out).toContain(
    `continue the ${room.head.size} remembered`,
  );
  expect((await verify(host, "--dir", "log", "--threads", "0")).code).toBe(2);
});

test("of two verifications at once the longer log is remembered, also where the shorter one ends last", async () => {
  const host = testHost();
  copyFor(host);
  const longer = { size: room.head.size + 1, root_sha256: "0".repeat(64) };
  const origin = `${room.base.keys.origin_prefix}/${tenantId}`;
  await rememberHead(host, origin, longer);
  await rememberHead(host, origin, room.head);
  expect(await rememberedHead(host, origin)).toEqual(longer);
  const { code, json } = await verify(host, "--dir", "log", "--json");
  expect([code, json()]).toMatchObject([7, { verdict: "GAP", remembered: longer }]);
});

test("a head that a release before remembered counts, until a larger one is remembered", async () => {
  const host = testHost();
  copyFor(host);
  expect((await verify(host, "--dir", "log")).code).toBe(0);
  const folder = join(host.home, ".local", "state", "maestro", "heads");
  const [log] = readdirSync(folder);
  const before = join(folder, `${log!}.json`);
  const longer = { size: room.head.size + 1, root_sha256: "0".repeat(64) };
  for (const heads of [[], readdirSync(join(folder, log!))]) {
    if (heads.length === 0) rmSync(join(folder, log!), { recursive: true });
    writeFileSync(before, JSON.stringify(longer));
    const { code, json } = await verify(host, "--dir", "log", "--json");
    expect([code, json()]).toMatchObject([7, { verdict: "GAP", remembered: longer }]);
    rmSync(before);
    expect((await verify(host, "--dir", "log")).code).toBe(0);
  }
  writeFileSync(before, JSON.stringify(room.head));
  await rememberHead(host, `${room.base.keys.origin_prefix}/${tenantId}`, longer);
  expect(readdirSync(folder)).toEqual([log]);
});

test("a remembered head that cannot be read, or says another size than its name, ends it before the log is asked", async () => {
  const host = testHost();
  copyFor(host);
  const folder = join(host.home, ".local", "state", "maestro", "heads");
  expect((await verify(host, "--dir", "log")).code).toBe(0);
  const [log] = readdirSync(folder);
  const [name] = readdirSync(join(folder, log!));
  const path = join(folder, log!, name!);
  for (const text of ["", "{}", JSON.stringify({ ...room.head, size: 1 })]) {
    writeFileSync(path, text);
    const { code, err } = await verify(host, "--dir", "log");
    expect([code, err]).toEqual([1, expect.stringContaining("is not readable")]);
  }
});

test("a folder without one of the tiles is exit code 7, and the first row under it is named", async () => {
  const host = testHost();
  copyFor(host);
  rmSync(join(host.home, "log", tenantId, "tile", "0", "000"));
  const { code, json } = await verify(host, "--dir", "log", "--json");
  expect([code, json()]).toMatchObject([7, { verdict: "GAP", first_bad: { row: 0 } }]);
});

test("a pipe, an endless device or a file without measure in the folder ends it, and is not read", async () => {
  const [segment, manifest] = ["seg", "manifest"].map((kind) =>
    [...room.base.objects.keys()].find((key) => key.startsWith(`${tenantId}/${kind}/`))!,
  );
  const plants: readonly (readonly [key: string, reason: string, plant: (path: string) => void])[] = [
    [manifest!, "is not a file", (path) => void execFileSync("mkfifo", [path])],
    [`${tenantId}/checkpoint`, "is not a file", (path) => symlinkSync("/dev/zero", path)],
    [segment!, "has more than", (path) => truncateSync(path, 64 * 1024 * 1024 + 1)],
    [`${tenantId}/tile/0/000`, "has more than", (path) => truncateSync(path, 8_193)],
  ];
  for (const [key, reason, plant] of plants) {
    const host = testHost();
    copyFor(host);
    const path = join(host.home, "log", key);
    if (reason === "is not a file") rmSync(path, { force: true });
    plant(path);
    const { code, err } = await verify(host, "--dir", "log");
    expect([key, code, err]).toEqual([key, 7, expect.stringContaining(reason)]);
  }
});

test("Ctrl-C ends it at once, whatever it waits for", async () => {
  const server = await testServer();
  const host = testHost({ env: { AWS_ACCESS_KEY_ID: "AKTEST", AWS_SECRET_ACCESS_KEY: "secret" } });
  copyFor(host);
  server.on("GET /mc-audit", () => host.interrupt()); // and no answer, ever
  const started = performance.now();
  expect((await verify(host, "--bucket", `${server.url}/mc-audit`, "--tenant", tenantId)).code).toBe(130);
  expect((await verify(host, "--dir", "log")).code).toBe(130);
  expect(performance.now() - started).toBeLessThan(2_000);
});

test("a folder, a bucket and a copy exclude each other, and a tenant is an id", async () => {
  const host = testHost({ env: { AWS_ACCESS_KEY_ID: "AKTEST", AWS_SECRET_ACCESS_KEY: "secret" } });
  copyFor(host);
  const bucket = ["--bucket", "https://r2.example/mc-audit"];
  for (const argv of [
    ["--dir", "log", ...bucket],
    ["--dir", "log", "--out", "copy"],
    ["--tenant", tenantId],
    [...bucket, "--tenant", "../../etc"],
    ["--bucket", "http://r2.example/mc-audit"],
  ])
    expect([argv, (await verify(host, ...argv)).code]).toEqual([argv, 2]);
});
