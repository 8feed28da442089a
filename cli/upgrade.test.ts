// `maestro market install`, `upgrade` and `rollback` around real signatures, against an API that may lie.

import { describe, expect, test } from "vitest";
import { maestro, testHost, type TestHost } from "./testing/host.ts";
import { apiKey, idOf, market, newSigner, signedPointer, type Market } from "./testing/market.ts";
import { json, type Answer } from "./testing/server.ts";

const at = "2026-04-13T16:00:00.000Z";
const name = "tools/sample";

const hostOf = (server: Market, terminal = false): TestHost =>
  testHost({ env: { MAESTRO_API_URL: server.url, MAESTRO_API_KEY: apiKey, NO_COLOR: "1" }, terminal });

const installOf = (server: Market, given: Record<string, unknown> = {}) => ({
  id: idOf("ins"),
  package: name,
  name: "default",
  version: "1.0.0",
  channel: "stable",
  artifact_sha256: server.artifactSha256,
  units: 10,
  release_id: idOf("rel"),
  pinned: false,
  bucket: 4711,
  changed_at: at,
  ...given,
});

const gate = {
  state: "continue",
  rule: "ok",
  words: "The new release does not fail more often.",
  new_runs: 12,
  new_failures: 1,
  old_runs: 40,
  old_failures: 2,
  log10_e_milli: 310,
  evaluated_at: at,
};

const rolloutOf = (server: Market, given: Record<string, unknown> = {}) => ({
  id: idOf("rol"),
  package: name,
  channel: "stable",
  version: "1.0.0",
  release_id: idOf("rel"),
  artifact_sha256: server.artifactSha256,
  cohort_percent: 10,
  state: "running",
  rule: null,
  reason: "",
  started_by: idOf("pri"),
  started_at: at,
  changed_at: at,
  ended_at: null,
  gate: null,
  ...given,
});

const upgradeOf = (server: Market, rollout: Record<string, unknown> = {}) => ({
  rollout: rolloutOf(server, rollout),
  moves: [{ install_id: idOf("ins"), name: "site-a", from_version: "0.9.0", to_version: "1.0.0", cause: "upgrade" }],
  installs: 3,
  in_cohort: 1,
  pinned: 0,
  smallest_cohort_percent: 4,
});

const statusOf = (rollout: unknown) => ({
  package: name,
  version: 3,
  frozen: false,
  frozen_reason: null,
  installs: [],
  good: [],
  channels: [],
  rollout,
  bars: [],
});

async function installing(given: Record<string, unknown> = {}): Promise<{ server: Market; host: TestHost }> {
  const server = await market();
  server.on("POST /api/market/installs", (request, response) => json(installOf(server, given), 201)(request, response));
  return { server, host: hostOf(server) };
}
const install = (host: TestHost) => maestro(host, "market", "install", name, "--json");
const bodyOf = (server: Market, path: string): unknown =>
  JSON.parse(server.seen.find((one) => one.path === path && one.method === "POST")!.body.toString());

describe("market install", () => {
  test("sends package, channel and name under a key, and tells what it verified", async () => {
    const { server, host } = await installing({ name: "site-a" });
    const { code, out } = await maestro(host, "market", "install", name, "--name", "site-a");
    expect(code).toBe(0);
    expect(out).toContain("verified\t1.0.0: both signatures; stable → 1.0.0: signed, move 1");
    expect(bodyOf(server, "/api/market/installs")).toEqual({ package: name, channel: "stable", name: "site-a" });
    const sent = server.seen.find(({ path }) => path === "/api/market/installs")!;
    expect(sent.headers["idempotency-key"]).toMatch(/^[0-9a-f-]{36}$/);
  });

  test("refuses a pointer that says a time after the end of its key, and takes one that does not", async () => {
    const { server, host } = await installing();
    const { keys } = server.keys as { keys: object[] };
    const ending = (not_after: string) => ({ ...(server.keys as object), keys: [{ ...keys[0]!, not_after }] });
    server.keys = ending(at);
    expect((await install(host)).code).toBe(0);
    server.keys = ending("2026-04-13T15:59:59.999Z");
    const other = hostOf(server);
    const { code, err } = await install(other);
    expect([code, err]).toEqual([7, expect.stringContaining("its key ended at 2026-04-13T15:59:59.999Z")]);
  });

  test("says where the channel points elsewhere, which a cohort explains", async () => {
    const { server, host } = await installing();
    server.pointer = await signedPointer(server.marketplace, {
      package: name,
      channel: "stable",
      version: "1.1.0",
      sequence: 2,
      moved_at: at,
      artifact_sha256: "a".repeat(64),
    });
    const { code, err } = await install(host);
    expect(code).toBe(0);
    expect(err).toContain("stable points to 1.1.0");
  });

  const lies: readonly (readonly [string, (server: Market) => Promise<void> | void, string])[] = [
    [
      "the release is not countersigned",
      (server) => void (server.release = { ...server.release, marketplace_bundle: null, state: "in_review" }),
      "has not countersigned it",
    ],
    [
      "the publisher's key is another one",
      async (server) => {
        const { spki } = await newSigner();
        server.release = { ...server.release, publisher_key: Buffer.from(spki).toString("base64") };
      },
      "the publisher's signature",
    ],
    [
      "another marketplace signed the pointer",
      async (server) => {
        const { bundle } = await signedPointer(await newSigner(), pointerNow(server));
        server.pointer = { ...server.pointer, bundle };
      },
      "the channel pointer's signature",
    ],
    [
      "the pointer was signed for another channel",
      async (server) => {
        const { bundle } = await signedPointer(server.marketplace, { ...pointerNow(server), channel: "canary" });
        server.pointer = { ...server.pointer, bundle };
      },
      "another channel",
    ],
    [
      "the pointer was signed for an older move",
      (server) => void (server.pointer = { ...server.pointer, sequence: 2 }),
      "another sequence",
    ],
    [
      "the pointer names another artifact for the version",
      async (server) => {
        const other = { ...pointerNow(server), artifact_sha256: "a".repeat(64) };
        server.pointer = await signedPointer(server.marketplace, other);
      },
      "over another artifact",
    ],
    [
      "the pointer is another package's, as it was signed",
      async (server) => {
        server.pointer = await signedPointer(server.marketplace, { ...pointerNow(server), package: "tools/other" });
      },
      "the pointer is of tools/other",
    ],
    [
      "there is no pointer",
      (server) => server.on("GET /api/market/channels", json({ channels: [] })),
      "no signed pointer",
    ],
  ];
  const pointerNow = (server: Market) => ({
    package: name,
    channel: "stable" as const,
    version: "1.0.0",
    sequence: 1,
    moved_at: at,
    artifact_sha256: server.artifactSha256,
  });
  test.each(lies)("is exit code 7 where %s", async (_words, bend, sentence) => {
    const { server, host } = await installing();
    await bend(server);
    const { code, json: value, err } = await install(host);
    expect(code).toBe(7);
    expect(String((value()["error"] as Record<string, unknown>)["title"])).toContain(sentence);
    expect(err).toContain("maestro market status tools/sample");
  });

  test("is exit code 7 where the answer names another artifact than the signed one", async () => {
    const { host } = await installing({ artifact_sha256: "b".repeat(64) });
    expect((await install(host)).code).toBe(7);
  });

  test("changes nothing where the API's keys are not the trusted ones", async () => {
    const { server, host } = await installing();
    expect((await install(host)).code).toBe(0);
    const installs = (): number => server.seen.filter(({ path }) => path === "/api/market/installs").length;
    server.keys = { ...server.keys, origin_prefix: "elsewhere.local/log" };
    expect((await install(host)).code).toBe(7);
    expect(installs()).toBe(1);
  });
});

describe("market upgrade", () => {
  async function upgrading(rollout: Record<string, unknown> = {}, terminal = false) {
    const server = await market();
    server.on("POST /api/market/upgrades", (request, response) =>
      json(upgradeOf(server, rollout), 201)(request, response),
    );
    return { server, host: hostOf(server, terminal) };
  }

  test("sends the cohort, and shows the moves and what was verified", async () => {
    const { server, host } = await upgrading();
    const { code, out } = await maestro(host, "market", "upgrade", name, "--cohort", "10", "--reason", "try it");
    expect(code).toBe(0);
    expect(out).toContain("site-a\t0.9.0\t1.0.0\tupgrade");
    expect(out).toContain("installs\t3, 1 in the cohort, 0 pinned");
    expect(bodyOf(server, "/api/market/upgrades")).toEqual({
      package: name,
      channel: "stable",
      cohort_percent: 10,
      despite_gate: false,
      reason: "try it",
    });
  });

  test("to an unsigned release is exit code 7", async () => {
    const { server, host } = await upgrading();
    server.release = { ...server.release, marketplace_bundle: null };
    expect((await maestro(host, "market", "upgrade", name)).code).toBe(7);
  });

  test("to another release than the answer names is exit code 7, though it is signed and of the same version", async () => {
    const { server, host } = await upgrading();
    server.release = { ...server.release, id: `rel_${"z".repeat(26)}` };
    const { code, err } = await maestro(host, "market", "upgrade", name);
    expect(code).toBe(7);
    expect(err).toContain("another release than the one that was named");
  });

  test("of an empty cohort says which would have an install", async () => {
    const { server, host } = await upgrading();
    server.on("POST /api/market/upgrades", json({ ...upgradeOf(server), moves: [], in_cohort: 0 }, 201));
    expect((await maestro(host, "market", "upgrade", name, "--cohort", "1")).err).toContain("--cohort 4");
  });

  function endingAs(server: Market, ...later: Record<string, unknown>[]): void {
    const answers = [...later];
    const next: Answer = (request, response) =>
      json(statusOf(rolloutOf(server, answers.length > 1 ? answers.shift() : answers[0])))(request, response);
    server.on("GET /api/market/status", next);
  }

  test.each([
    ["completed", 0],
    ["aborted", 10],
    ["superseded", 5],
  ] as const)("--watch until it is %s is exit code %i", async (state, exit) => {
    const { server, host } = await upgrading();
    endingAs(server, { gate }, { gate }, { state, rule: "health_gate", ended_at: at, gate });
    const {
      code,
      json: value,
      err,
    } = await maestro(host, "market", "upgrade", name, "--cohort", "10", "--watch", "--json");
    expect(code).toBe(exit);
    expect(value()["rollout"]).toMatchObject({ state });
    const lines = err
      .trim()
      .split("\n")
      .filter((line) => line.startsWith(name));
    expect(lines).toEqual([
      "tools/sample 1.0.0 to 10%: running; the gate has not been asked yet",
      expect.stringContaining(
        "running; continue: The new release does not fail more often. (new 12 runs, 1 failed; old 40 runs, 2 failed",
      ),
      expect.stringContaining(`${state} (health_gate)`),
    ]);
    expect(host.slept).toEqual([2_000, 2_000, 2_000]);
  });

  test("--watch shows no control character of what the API says", async () => {
    const { server, host } = await upgrading();
    endingAs(server, { state: "completed", rule: "all\u001b[2J", ended_at: at, gate });
    const { err } = await maestro(host, "market", "upgrade", name, "--cohort", "10", "--watch", "--json");
    expect(err).toContain("completed (all\\u{1b}[2J)");
    expect(err).not.toContain("\u001B");
  });

  test("--watch keeps to its rollout when a newer one is shown", async () => {
    const { server, host } = await upgrading();
    server.on("GET /api/market/status", json(statusOf(rolloutOf(server, { id: `rol_${"z".repeat(26)}` }))));
    const ended = rolloutOf(server, { state: "superseded", rule: "superseded", ended_at: at });
    server.on(`GET /api/market/rollouts/${ended.id}`, json(ended));
    expect((await maestro(host, "market", "upgrade", name, "--cohort", "10", "--watch")).code).toBe(5);
  });

  test("--watch ends by Ctrl-C with exit code 130, and says that the rollout goes on", async () => {
    const { server, host } = await upgrading({}, true);
    server.on("GET /api/market/status", (request, response) => {
      host.interrupt();
      return json(statusOf(rolloutOf(server)))(request, response);
    });
    const { code, err } = await maestro(host, "market", "upgrade", name, "--cohort", "10", "--watch");
    expect(code).toBe(130);
    expect(err).toContain("the rollout goes on; see it with: maestro market status tools/sample");
  });
});

test("market rollback tells what moved, what did not and why, and what is barred", async () => {
  const server = await market();
  const move = { install_id: idOf("ins"), name: "a", from_version: "1.1.0", to_version: "1.0.0", cause: "rollback" };
  server.on(
    "POST /api/market/rollbacks",
    json(
      {
        package: name,
        moves: [move],
        unmoved: [{ name: "b", why: "It had no other version." }],
        barred: [{ version: "1.1.0", artifact_sha256: "a".repeat(64) }],
        rollout_aborted: idOf("rol"),
      },
      201,
    ),
  );
  const { code, out } = await maestro(hostOf(server), "market", "rollback", name, "--to", "1.0.0");
  expect(code).toBe(0);
  expect(out).toContain("barred\t1.1.0");
  expect(out).toContain("a\t1.1.0\t1.0.0\trollback");
  expect(out).toContain("b\tIt had no other version.");
  expect(bodyOf(server, "/api/market/rollbacks")).toEqual({ package: name, to_version: "1.0.0", reason: "" });
});
