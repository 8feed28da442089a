// Provider B's local store against what Bunny Storage's API answers.

import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { bunnyZone, startBunnyStorage, type BunnyStorage } from "./bunny-storage.ts";

const accessKey = "the-zone-password";
const readOnlyKey = "the-read-only-password";
let folder: string;
let storage: BunnyStorage;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "maestro-bunny-"));
  storage = await startBunnyStorage({ folder, port: 0, accessKey, readOnlyKey, durable: true });
});
afterAll(async () => {
  await storage.stop();
  rmSync(folder, { recursive: true, force: true });
});

const checksum = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex").toUpperCase();
const call = (method: string, path: string, init: { headers?: Record<string, string>; body?: Uint8Array } = {}) =>
  fetch(`${storage.url}/${bunnyZone}/${path}`, {
    method,
    headers: { AccessKey: accessKey, ...init.headers },
    ...(init.body === undefined ? {} : { body: new Uint8Array(init.body) }),
  });

/** A request whose path goes out as it is written, and its status. */
function rawStatus(method: string, path: string): Promise<number> {
  const { hostname, port } = new URL(storage.url);
  return new Promise((resolve, reject) => {
    request({ hostname, port, method, path, headers: { AccessKey: accessKey } }, (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    })
      .once("error", reject)
      .end();
  });
}

test("what was put is what is got, whole, by head and by range", async () => {
  const body = new Uint8Array(randomBytes(100_000));
  const put = await call("PUT", "policies/acme/a.tar.gz", { body, headers: { Checksum: checksum(body) } });
  expect([put.status, await put.json()]).toEqual([201, { HttpCode: 201, Message: "File uploaded." }]);

  const whole = await call("GET", "policies/acme/a.tar.gz");
  expect(whole.headers.get("content-length")).toBe("100000");
  expect(Buffer.from(await whole.arrayBuffer()).equals(body)).toBe(true);
  const head = await call("HEAD", "policies/acme/a.tar.gz");
  expect([head.status, head.headers.get("content-length"), await head.text()]).toEqual([200, "100000", ""]);
  const part = await call("GET", "policies/acme/a.tar.gz", { headers: { range: "bytes=10-19" } });
  expect([part.status, part.headers.get("content-range")]).toEqual([206, "bytes 10-19/100000"]);
  expect(Buffer.from(await part.arrayBuffer()).equals(body.subarray(10, 20))).toBe(true);
  const end = await call("GET", "policies/acme/a.tar.gz", { headers: { range: "bytes=-5" } });
  expect(Buffer.from(await end.arrayBuffer()).equals(body.subarray(-5))).toBe(true);
  const beyond = await call("GET", "policies/acme/a.tar.gz", { headers: { range: "bytes=100000-" } });
  expect([beyond.status, beyond.headers.get("content-range")]).toEqual([416, "bytes */100000"]);
});

test("a body of another digest is refused, and leaves what was there", async () => {
  const [before, after] = [Buffer.from("before"), Buffer.from("after")];
  await call("PUT", "tuf/acme/timestamp.json", { body: before });
  const wrong = await call("PUT", "tuf/acme/timestamp.json", { body: after, headers: { Checksum: checksum(before) } });
  expect([wrong.status, await wrong.json()]).toEqual([
    400,
    { HttpCode: 400, Message: "Checksum and file contents mismatched" },
  ]);
  // Bunny takes upper case only.
  const lower = await call("PUT", "tuf/acme/timestamp.json", {
    body: after,
    headers: { Checksum: checksum(after).toLowerCase() },
  });
  expect(lower.status).toBe(400);
  expect(await (await call("GET", "tuf/acme/timestamp.json")).text()).toBe("before");
  expect(readdirSync(join(folder, "drafts"))).toEqual([]);
});

test("without the zone's key nothing is told, and with the read-only one nothing is written", async () => {
  const body = Buffer.from("x");
  await call("PUT", "secret", { body });
  for (const AccessKey of ["", "wrong", accessKey.toUpperCase()]) {
    const refused = await call("GET", "secret", { headers: { AccessKey } });
    expect([refused.status, await refused.json()]).toEqual([401, { HttpCode: 401, Message: "Unauthorized" }]);
  }
  const reads = { headers: { AccessKey: readOnlyKey } };
  expect((await call("GET", "secret", reads)).status).toBe(200);
  expect((await call("PUT", "secret", { ...reads, body })).status).toBe(401);
  expect((await call("DELETE", "secret", reads)).status).toBe(401);
  expect((await fetch(`${storage.url}/another-zone/secret`, { headers: { AccessKey: accessKey } })).status).toBe(401);
});

test("what was deleted is gone, and what is not there is not found", async () => {
  await call("PUT", "fetchers/abc.json", { body: Buffer.from("{}") });
  const gone = await call("DELETE", "fetchers/abc.json");
  expect([gone.status, await gone.json()]).toEqual([200, { HttpCode: 200, Message: "File deleted successfuly." }]);
  for (const method of ["GET", "DELETE"]) {
    const missing = await call(method, "fetchers/abc.json");
    expect([missing.status, await missing.json()]).toEqual([404, { HttpCode: 404, Message: "Object Not Found" }]);
  }
});

test("a path with a slash at the end is the list of a folder", async () => {
  await call("PUT", "deltas/acme/one..two.zst", { body: Buffer.from("12") });
  const listed = (await (await call("GET", "deltas/acme/")).json()) as Record<string, unknown>[];
  expect(listed).toMatchObject([
    { ObjectName: "one..two.zst", Length: 2, IsDirectory: false, Path: `/${bunnyZone}/deltas/acme/` },
  ]);
  expect(await (await call("GET", "nowhere/")).json()).toEqual([]);
  expect((await call("DELETE", "deltas/")).status).toBe(200);
  expect((await call("GET", "deltas/acme/one..two.zst")).status).toBe(404);
});

test.each([
  `/${bunnyZone}/../drafts/x`,
  `/${bunnyZone}/a/../../x`,
  `/${bunnyZone}/%2e%2e/%2e%2e/x`,
  `/${bunnyZone}/a%2fb`,
  `/${bunnyZone}/a%5cb`,
  `/${bunnyZone}/a%00b`,
  `/${bunnyZone}//x`,
  `/${bunnyZone}/%zz`,
  `/${bunnyZone}`,
  `/${bunnyZone}/${"x".repeat(256)}`,
])("a path that is no object's is refused before the disk is asked: %s", async (path) => {
  expect(await rawStatus("PUT", path)).toBe(400);
});

test("a name that a folder has is no file's, nor the other way round", async () => {
  await call("PUT", "kinds/inner/file", { body: Buffer.from("1") });
  expect((await call("PUT", "kinds/inner", { body: Buffer.from("2") })).status).toBe(400);
  expect((await call("PUT", "kinds/inner/file/deeper", { body: Buffer.from("3") })).status).toBe(400);
  expect((await call("GET", "kinds/inner")).status).toBe(404);
});

test("a store that was stopped and started has the same address and the same objects", async () => {
  await call("PUT", "kept", { body: Buffer.from("kept") });
  const { url } = storage;
  await storage.stop();
  await expect(call("GET", "kept")).rejects.toThrow("fetch failed");
  await storage.start();
  expect(storage.url).toBe(url);
  expect(await (await call("GET", "kept")).text()).toBe("kept");
});
