// A new key, and where its secret goes.

import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { maestro, testHost } from "./testing/host.ts";
import { apiKey } from "./testing/market.ts";
import { json, testServer } from "./testing/server.ts";

const id = `key_${"0".repeat(26)}`;
const made = {
  id,
  principal_id: `pri_${"0".repeat(26)}`,
  role: "viewer",
  prefix: "mk_aaaaa",
  created_at: "2026-04-13T16:00:00.000Z",
  expires_at: null,
  last_used_at: null,
  revoked_at: null,
  key: `mk_${"b".repeat(32)}`,
};

async function scene() {
  const server = await testServer();
  server.on("POST /api/keys", json(made, 201));
  const host = testHost({ env: { MAESTRO_API_URL: server.url, MAESTRO_API_KEY: apiKey } });
  const create = (out: string) => maestro(host, "keys", "create", "--role", "viewer", "--out", out);
  return { server, host, create };
}

test("no key is made where its file cannot be", async () => {
  const { server, host, create } = await scene();
  mkdirSync(join(host.home, "folder"));
  expect((await create("folder")).code).toBe(2);
  expect(server.seen).toEqual([]);
});

test("a key whose file cannot be written is named, so that it can be revoked, and is not shown", async () => {
  const { server, host, create } = await scene();
  // It was a place for a file when it was looked at.
  server.on("POST /api/keys", (request, response) => {
    mkdirSync(join(host.home, "fetcher.key"));
    return json(made, 201)(request, response);
  });
  const { code, out, err } = await create("fetcher.key");
  expect([code, err]).toEqual([1, expect.stringContaining(`maestro keys revoke ${id}`)]);
  expect(out + err).not.toContain(made.key);
});

test("a key goes into its file alone", async () => {
  const { host, create } = await scene();
  const { code, out, err } = await create("fetcher.key");
  expect([code, readFileSync(join(host.home, "fetcher.key"), "utf8")]).toEqual([0, `${made.key}\n`]);
  expect(out + err).not.toContain(made.key);
});
