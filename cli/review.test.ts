// Releases on the command line: uploaded, reviewed, looked for, moved between channels.

import { describe, expect, test } from "vitest";
import { maestro, testHost, type TestHost } from "./testing/host.ts";
import { apiKey, idOf, market, packageFolder, sampleManifest, type Market } from "./testing/market.ts";
import { json } from "./testing/server.ts";

const name = "tools/sample";
const id = idOf("rel");

const hostOf = (server: Market): TestHost =>
  testHost({ env: { MAESTRO_API_URL: server.url, MAESTRO_API_KEY: apiKey } });
const posts = (server: Market) =>
  server.seen.filter(({ method, path }) => method === "POST" && path !== "/api/market/publisher-keys");

describe("market publish", () => {
  async function publishing(state: string) {
    const server = await market();
    const host = hostOf(server);
    await maestro(host, "market", "keygen");
    server.on(
      "POST /api/market/releases",
      json({ ...server.release, state, marketplace_bundle: null, published_at: null, reviewed_at: null }, 201),
    );
    return { server, host, folder: packageFolder(sampleManifest, { "main.mjs": "" }) };
  }

  test("hands the release in, and says who has to do what next", async () => {
    const { server, host, folder } = await publishing("in_review");
    const { code, out, err } = await maestro(host, "market", "publish", folder);
    expect(code).toBe(0);
    expect(out).toContain("state\tin_review");
    expect(err).toContain("maestro market review approve tools/sample@1.0.0");
    expect(posts(server).at(-1)!.headers["maestro-release-draft"]).toBeUndefined();
  });

  test("--draft asks for a draft, and says how it is handed in", async () => {
    const { server, host, folder } = await publishing("draft");
    const { err } = await maestro(host, "market", "publish", folder, "--draft");
    expect(err).toContain("maestro market submit tools/sample@1.0.0");
    expect(posts(server).at(-1)!.headers["maestro-release-draft"]).toBe("true");
    server.on(`POST /api/market/releases/${id}/submit`, json({ ...server.release, state: "in_review" }));
    expect((await maestro(host, "market", "submit", "tools/sample@1.0.0")).code).toBe(0);
    expect(posts(server).at(-1)!.path).toBe(`/api/market/releases/${id}/submit`);
  });
});

describe("market review", () => {
  const file = (path: string, bytes: number) => ({ path, bytes, sha256: "a".repeat(64) });
  const difference = {
    before: { release_id: id, version: "0.9.0", artifact_sha256: "b".repeat(64) },
    manifest: [{ path: "/privacy_units", before: 5, after: 10 }],
    files: {
      added: [file("new.mjs", 10)],
      removed: [file("old.mjs", 20)],
      changed: [{ path: "main.mjs", before: file("main.mjs", 1), after: file("main.mjs", 2) }],
      unchanged_count: 3,
    },
    unpacked_bytes: { before: 100, after: 200 },
    same_publisher_key: false,
    asks_for_more: ["A run spends 10 micro-epsilon instead of 5."],
  };

  async function reviewing() {
    const server = await market();
    const waiting = { ...server.release, state: "in_review", marketplace_bundle: null };
    const other = { ...waiting, id: `rel_${"z".repeat(26)}`, package: "tools/other" };
    // The one that is asked for is on the second page.
    server.on("GET /api/market/reviews", (request, response) =>
      json(
        request.query.get("cursor") === null
          ? { releases: [other], next_cursor: "c1" }
          : { releases: [waiting], next_cursor: null },
      )(request, response),
    );
    server.on(`GET /api/market/reviews/${id}`, json({ release: waiting, difference }));
    for (const verdict of ["approve", "reject"]) {
      server.on(`POST /api/market/reviews/${id}/${verdict}`, json(server.release));
    }
    return { server, host: hostOf(server) };
  }

  test("show tells what changed and what is asked for more", async () => {
    const { host } = await reviewing();
    const { code, out, err } = await maestro(host, "market", "review", "show", `${name}@1.0.0`);
    // By the id of what it showed: another release may wait under that name by then.
    expect([code, err]).toEqual([0, expect.stringContaining(`maestro market review approve ${id}`)]);
    for (const line of [
      `Against 0.9.0 (${id}):`,
      "! signed by another publisher key",
      "100 → 200 bytes unpacked",
      "! A run spends 10 micro-epsilon instead of 5.",
      "~ /privacy_units 5 → 10",
      "+ new.mjs (10 bytes)",
      "- old.mjs (20 bytes)",
      "~ main.mjs (1 → 2 bytes)",
      "3 unchanged",
    ]) {
      expect(out.split("\n")).toContain(line);
    }
  });

  test("approve and reject take an id, or find PACKAGE@VERSION in the queue", async () => {
    const { server, host } = await reviewing();
    expect((await maestro(host, "market", "review", "approve", id)).code).toBe(0);
    expect((await maestro(host, "market", "review", "reject", `${name}@1.0.0`, "--reason", "no")).code).toBe(0);
    expect(posts(server).map(({ path, body }) => [path, JSON.parse(body.toString())])).toEqual([
      [`/api/market/reviews/${id}/approve`, { reason: "" }],
      [`/api/market/reviews/${id}/reject`, { reason: "no" }],
    ]);
  });

  test("what is not in the queue is exit code 4; a rejection without a reason is exit code 2", async () => {
    const { server, host } = await reviewing();
    expect((await maestro(host, "market", "review", "approve", `${name}@9.9.9`)).code).toBe(4);
    expect((await maestro(host, "market", "review", "reject", id)).code).toBe(2);
    expect((await maestro(host, "market", "review", "show", "no release")).code).toBe(2);
    expect(posts(server)).toEqual([]);
  });

  test("list shows what waits", async () => {
    const { host } = await reviewing();
    const { out, err } = await maestro(host, "market", "review");
    expect(out).toContain("tools/other\t1.0.0\tstable");
    expect(err).toContain("more: maestro market review list --limit 20 --cursor c1");
  });
});

describe("channels", () => {
  test("promote takes the version of canary where none is named", async () => {
    const server = await market({ manifest: { ...sampleManifest, channel: "canary" } });
    const host = hostOf(server);
    server.on("POST /api/market/channels", json({ ...server.pointer, channel: "stable" }, 201));
    expect((await maestro(host, "market", "promote", name)).code).toBe(0);
    expect(JSON.parse(posts(server).at(-1)!.body.toString())).toEqual({
      package: name,
      channel: "stable",
      version: "1.0.0",
      down: false,
    });
    server.on("GET /api/market/channels", json({ channels: [] }));
    expect((await maestro(host, "market", "promote", name)).code).toBe(2);
  });
});

test("market search sends the words as one query and shows packages without control characters", async () => {
  const server = await market();
  const found = {
    name,
    description: "lists \u001B[31mthings",
    stable: "1.0.0",
    canary: null,
    release_count: 1,
    published_at: "2026-04-13T16:00:00.000Z",
  };
  server.on("GET /api/market/packages", json({ packages: [found], next_cursor: null }));
  const { out } = await maestro(hostOf(server), "market", "search", "npm", "inventory");
  expect(server.seen.at(-1)!.query.get("q")).toBe("npm inventory");
  expect(out).toContain("tools/sample\t1.0.0\t-\t1");
  expect(out).not.toContain("\u001B");
});
