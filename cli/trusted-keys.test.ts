// Whose signatures count: the keys of an API's first use, and no others until the user accepts them, in every command
// that verifies.

import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { base64 } from "../shared/contract/bytes.ts";
import type { PublishedKey, PublishedKeys } from "../shared/contract/http-audit.ts";
import { eventAt, seeded, tenantId } from "../test/simulation/audit-events.ts";
import { newKeys, newSigner, publishedKeysOf, textsOf, World, type TestKeys } from "../test/simulation/audit-world.ts";
import { canonicalJson } from "../shared/contract/events.ts";
import { maestro, testFolder, testHost, type TestHost } from "./testing/host.ts";
import { apiKey, executionId, market } from "./testing/market.ts";
import { json, testServer, type TestServer } from "./testing/server.ts";
import { keyChanges } from "./trusted-keys.ts";

const stateOf = (host: TestHost): string => join(host.home, ".local", "state", "maestro");
const keyFiles = (host: TestHost): string[] => {
  const folder = join(stateOf(host), "keys");
  return existsSync(folder) ? readdirSync(folder).toSorted() : [];
};
/** Every remembered file with its contents: what must not change where something is refused. */
const stateFiles = (host: TestHost): Record<string, string> =>
  Object.fromEntries(
    (existsSync(stateOf(host)) ? readdirSync(stateOf(host), { recursive: true, withFileTypes: true }) : [])
      .filter((entry) => entry.isFile())
      .map((entry) => [entry.name, readFileSync(join(entry.parentPath, entry.name), "utf8")]),
  );
const trustedOf = (host: TestHost): unknown => {
  const [file] = keyFiles(host);
  return JSON.parse(readFileSync(join(stateOf(host), "keys", file!), "utf8"));
};

const hostOf = (server: TestServer): TestHost =>
  testHost({ env: { MAESTRO_API_URL: server.url, MAESTRO_API_KEY: apiKey } });

const keyOf = async (use: PublishedKey["use"]): Promise<PublishedKey> => {
  const { kid, spki } = await newSigner(use === "checkpoint" ? "Ed25519" : "P-256");
  const algorithm = use === "checkpoint" ? "Ed25519" : "ECDSA-P256-SHA256";
  return { kid, use, algorithm, spki: base64(spki), not_before: "2026-01-01T00:00:00.000Z" };
};
const setOf = async (...uses: PublishedKey["use"][]): Promise<PublishedKeys> => ({
  origin_prefix: "maestro.test/log",
  keys: await Promise.all(uses.map(keyOf)),
});

async function serving(keys: PublishedKeys): Promise<{ server: TestServer; host: TestHost }> {
  const server = await testServer();
  server.on("GET /api/audit/keys", json(keys));
  return { server, host: hostOf(server) };
}

describe("the keys of an API", () => {
  test("are trusted on the first use, which is said once, with each kid and its uses", async () => {
    const keys = await setOf("checkpoint", "manifest");
    const shared = { ...keys.keys[1]!, use: "receipt" as const };
    const { server, host } = await serving({ ...keys, keys: [...keys.keys, shared] });
    const first = await maestro(host, "audit", "keys");
    expect(first.code).toBe(0);
    expect(first.err.trim().split("\n")).toEqual([
      `note: first use of ${server.url}; its keys are trusted from now on: checkpoint ${keys.keys[0]!.kid.slice(0, 16)}, ` +
        `manifest and receipt ${keys.keys[1]!.kid.slice(0, 16)}`,
    ]);
    expect((await maestro(host, "audit", "keys")).err).toBe("");
  });

  test("are the same in another order", async () => {
    const keys = await setOf("checkpoint", "manifest", "release");
    const { server, host } = await serving(keys);
    await maestro(host, "audit", "keys");
    server.on("GET /api/audit/keys", json({ ...keys, keys: keys.keys.toReversed() }));
    expect((await maestro(host, "audit", "keys")).code).toBe(0);
  });

  test.each([
    ["a key more", async ({ keys }: PublishedKeys) => [...keys, await keyOf("manifest")], "new: manifest "],
    ["a key less", async ({ keys }: PublishedKeys) => keys.slice(1), "gone: checkpoint "],
    ["another key", async ({ keys }: PublishedKeys) => [await keyOf("checkpoint"), keys[1]!], "gone: checkpoint "],
    [
      "a key for another use",
      async ({ keys }: PublishedKeys) => [keys[0]!, { ...keys[1]!, use: "release" as const }],
      "new: release ",
    ],
    [
      "a key that is valid since another day",
      async ({ keys }: PublishedKeys) => [{ ...keys[0]!, not_before: "2020-01-01T00:00:00.000Z" }, keys[1]!],
      "altered: checkpoint ",
    ],
  ])("with %s are refused with exit code 7, and what is remembered stays", async (_, change, words) => {
    const keys = await setOf("checkpoint", "manifest");
    const { server, host } = await serving(keys);
    await maestro(host, "audit", "keys");
    const before = stateFiles(host);
    const served = { ...keys, keys: await change(keys) };
    server.on("GET /api/audit/keys", json(served));
    const { code, err, json: value } = await maestro(host, "audit", "keys", "--out", "keys.json", "--json");
    expect(code).toBe(7);
    expect(err).toContain(words);
    expect(err).toContain("maestro audit keys --accept");
    expect(value()["error"]).toMatchObject({
      exit: "verification_failed",
      changes: keyChanges(keys, served),
      trusted: keys,
      served,
    });
    expect(stateFiles(host)).toEqual(before);
    expect(existsSync(join(host.home, "keys.json"))).toBe(false);
  });

  test("with another origin of the log are refused: a remembered head goes by that name", async () => {
    const keys = await setOf("checkpoint");
    const { server, host } = await serving(keys);
    await maestro(host, "audit", "keys");
    server.on("GET /api/audit/keys", json({ ...keys, origin_prefix: "elsewhere/log" }));
    const { code, err } = await maestro(host, "audit", "keys");
    expect(code).toBe(7);
    expect(err).toContain("the log's origin was maestro.test/log, and is elsewhere/log");
  });

  test("under a kid that belongs to other bytes are refused, on the first use too", async () => {
    const keys = await setOf("checkpoint", "manifest");
    const [first, second] = keys.keys;
    for (const spki of [second!.spki, "no base64"]) {
      const { host } = await serving({ ...keys, keys: [{ ...first!, spki }, second!] });
      for (const more of [[], ["--accept"]]) expect((await maestro(host, "audit", "keys", ...more)).code).toBe(7);
      expect(stateFiles(host)).toEqual({});
    }
  });

  test("are replaced by --accept alone, which shows both sets; the new one is trusted then, and the old one is not", async () => {
    const [old, rotated] = [await setOf("checkpoint", "manifest"), await setOf("checkpoint", "manifest")];
    const { server, host } = await serving(old);
    await maestro(host, "audit", "keys");
    server.on("GET /api/audit/keys", json(rotated));
    const accepted = await maestro(host, "audit", "keys", "--accept");
    expect(accepted.code).toBe(0);
    for (const { kid } of [...old.keys, ...rotated.keys]) expect(accepted.out).toContain(kid);
    expect(trustedOf(host)).toEqual(rotated);
    expect((await maestro(host, "audit", "keys")).code).toBe(0);
    server.on("GET /api/audit/keys", json(old));
    expect((await maestro(host, "audit", "keys")).code).toBe(7);
    expect((await maestro(host, "audit", "keys", "--accept", "--json")).json()).toEqual({ ...old, replaced: rotated });
    expect((await maestro(host, "audit", "keys", "--accept", "--json")).json()).toEqual({ ...old, replaced: null });
  });

  test("are remembered for each API alone", async () => {
    const [one, other] = [await serving(await setOf("checkpoint")), await serving(await setOf("checkpoint"))];
    await maestro(one.host, "audit", "keys");
    one.host.env["MAESTRO_API_URL"] = other.server.url;
    const { code, err } = await maestro(one.host, "audit", "keys");
    expect([code, err]).toEqual([0, expect.stringContaining(`first use of ${other.server.url}`)]);
    expect(keyFiles(one.host)).toEqual(
      [one, other].map(({ server }) => `${encodeURIComponent(server.url)}.json`).toSorted(),
    );
  });

  test("that cannot be read from the state folder are not taken for a first use", async () => {
    const { server, host } = await serving(await setOf("checkpoint"));
    await maestro(host, "audit", "keys");
    writeFileSync(join(stateOf(host), "keys", keyFiles(host)[0]!), "{}");
    const asked = server.seen.length;
    expect((await maestro(host, "audit", "keys")).code).toBe(1);
    expect(server.seen.length).toBe(asked);
  });
});

describe("a stranger's keys, served in place of the trusted ones", () => {
  test("do not make maestro run start anything, and leave no output", async () => {
    const [server, stranger] = [await market(), await market()];
    const host = hostOf(server);
    writeFileSync(join(host.home, "input.txt"), "the input");
    const runIt = () => maestro(host, "run", "tools/sample", "input.txt", "--out", "out");
    expect((await runIt()).err).toContain(`first use of ${server.url}`);
    expect(server.finishes.length).toBe(1);
    const before = stateFiles(host);

    // The whole marketplace is the stranger's: its releases verify by its own keys.
    const started = server.seen.length;
    server.keys = stranger.keys;
    server.release = stranger.release;
    writeFileSync(join(host.home, "out"), "of the run before");
    const { code, err } = await runIt();
    expect(code).toBe(7);
    expect(err).toContain("gone: release ");
    expect(server.seen.slice(started).map(({ path }) => path)).toEqual(["/api/audit/keys"]);
    expect(readFileSync(join(host.home, "out"), "utf8")).toBe("of the run before");
    expect(stateFiles(host)).toEqual(before);
  });

  test("do not verify a log that the stranger went on with, whose rows so far are the same", async () => {
    const log = async (keys: TestKeys, more: number): Promise<World> => {
      const world = new World(keys, 78);
      const next = seeded(77);
      world.log.append(
        tenantId,
        Array.from({ length: 20 }, (_, at) => canonicalJson(eventAt(300 + at * 3, next))),
      );
      await world.settle();
      if (more > 0) {
        world.log.append(tenantId, textsOf(more, seeded(79), 3_000));
        await world.settle();
      }
      return world;
    };
    const [ours, strangers] = [await newKeys(), await newKeys()];
    const server = await testServer();
    const host = hostOf(server);
    await serveLog(server, await log(ours, 0));
    const first = await maestro(host, "audit", "verify", "--json");
    expect([first.code, first.json()["verdict"]]).toEqual([0, "VERIFIED-TO"]);
    const before = stateFiles(host);

    await serveLog(server, await log(strangers, 7));
    const second = await maestro(host, "audit", "verify", "--out", "copy", "--json");
    expect(second.code).toBe(7);
    expect(second.err).toContain("gone: checkpoint ");
    expect(stateFiles(host)).toEqual(before);
    expect(existsSync(join(host.home, "copy"))).toBe(false);

    // Ours is still the log that is remembered.
    await serveLog(server, await log(ours, 0));
    expect((await maestro(host, "audit", "verify", "--json")).json()).toMatchObject({ verdict: "VERIFIED", size: 20 });
  });

  test("do not let maestro disclosure get ask for a link, nor write a file", async () => {
    const keys = await setOf("receipt", "pack");
    const { server, host } = await serving(keys);
    await maestro(host, "audit", "keys");
    server.on("GET /api/audit/keys", json(await setOf("receipt", "pack")));
    const asked = server.seen.length;
    const { code } = await maestro(host, "disclosure", "get", executionId, "--out", "pack.zip");
    expect(code).toBe(7);
    expect(server.seen.slice(asked).map(({ path }) => path)).toEqual(["/api/audit/keys"]);
    expect(readdirSync(host.home).filter((name) => name.startsWith("pack"))).toEqual([]);
  });

  test("count for nothing where a key set is given by hand", async () => {
    const { server, host } = await serving(await setOf("checkpoint"));
    const given = testFolder();
    const world = new World(await newKeys(), 78);
    world.log.append(tenantId, textsOf(5, seeded(77)));
    await world.settle();
    writeFileSync(join(given, "keys.json"), JSON.stringify(world.published));
    await serveLog(server, world);
    server.on("GET /api/audit/keys", json(await setOf("checkpoint", "manifest")));
    expect((await maestro(host, "audit", "verify", "--keys", join(given, "keys.json"))).code).toBe(0);
    expect(keyFiles(host)).toEqual([]);
  });
});

/** The routes that `audit verify` asks, answered from a simulated log. */
async function serveLog(server: TestServer, world: World): Promise<void> {
  const reader = world.reader(world.log.checkpoint());
  server.on("GET /api/audit/keys", json(publishedKeysOf(world.keys)));
  server.on(
    "GET /api/whoami",
    json({
      tenant_id: tenantId,
      tenant: "logs",
      principal_id: `pri_${"0".repeat(26)}`,
      kind: "service",
      role: "auditor",
      credential: "key",
      spiffe_id: null,
    }),
  );
  server.on("GET /api/audit/checkpoint", (_request, response) => {
    response.setHeader("content-type", "text/plain");
    response.end(world.log.checkpoint());
  });
  server.on("GET /api/audit/manifests", async (request, response) =>
    json({ ranges: await reader.ranges(request.query.get("after")), next_after: null })(request, response),
  );
  for (const range of await reader.ranges(null)) {
    server.on(`GET /api/audit/manifests/${range}`, async (_request, response) =>
      response.end(await reader.manifest(range)),
    );
    server.on(`GET /api/audit/segments/${range}`, async (_request, response) =>
      response.end(await reader.segment(range)),
    );
  }
}
