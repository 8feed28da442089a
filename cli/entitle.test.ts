// Entitlements, their review and their explanations on the command line.

import { describe, expect, test } from "vitest";
import type { Entitlement } from "../shared/contract/http-entitlements.ts";
import { maestro, testHost, type TestHost } from "./testing/host.ts";
import { apiKey, idOf } from "./testing/market.ts";
import { json, problem, testServer, type TestServer } from "./testing/server.ts";

const name = "tools/sample";
const at = "2026-04-13T16:00:00.000Z";
const full: Entitlement = {
  package: name,
  channel: "canary",
  allowed: true,
  version_range: "^1.0.0",
  run_windows: [{ days: ["mon", "tue", "wed"], from: "08:00", to: "18:00" }],
  runs_per_day_max: 5,
};

async function api(rows: readonly Entitlement[] = [full]): Promise<{ server: TestServer; host: TestHost }> {
  const server = await testServer();
  server.on("GET /api/market/entitlements", json({ version: 7, entitlements: rows }));
  server.on("PUT /api/market/entitlements", json({ version: 8, entitlements: rows }));
  return { server, host: testHost({ env: { MAESTRO_API_URL: server.url, MAESTRO_API_KEY: apiKey } }) };
}
const puts = (server: TestServer) => server.seen.filter(({ method }) => method === "PUT");
const rowOf = (server: TestServer): unknown =>
  (JSON.parse(puts(server).at(-1)!.body.toString()) as { entitlements: unknown[] }).entitlements[0];
const entitle = (host: TestHost, ...more: string[]) => maestro(host, "market", "entitle", name, ...more);

describe("market entitle", () => {
  test.each<[string[], Partial<Entitlement>]>([
    [[], {}],
    [["--deny"], { allowed: false }],
    [["--channel", "stable"], { channel: "stable" }],
    [["--range", ">=1 <2"], { version_range: ">=1 <2" }],
    [["--no-range"], { version_range: null }],
    [["--window", "sat 09:00-12:00"], { run_windows: [{ days: ["sat"], from: "09:00", to: "12:00" }] }],
    [["--window", "never"], { run_windows: [] }],
    [["--no-window"], { run_windows: null }],
    [["--runs-per-day", "0"], { runs_per_day_max: 0 }],
    [["--no-runs-per-day"], { runs_per_day_max: null }],
  ])("%j changes that, and keeps what else there is", async (options, change) => {
    const { server, host } = await api();
    expect((await entitle(host, ...options)).code).toBe(0);
    expect(rowOf(server)).toEqual({ ...full, ...change });
    expect(puts(server).at(-1)!.headers["if-match"]).toBe('"v7"');
  });

  test("of a package without a row is stable, without constraints", async () => {
    const { server, host } = await api([{ ...full, package: "tools/other" }]);
    await entitle(host);
    expect(rowOf(server)).toEqual({
      package: name,
      channel: "stable",
      allowed: true,
      version_range: null,
      run_windows: null,
      runs_per_day_max: null,
    });
  });

  test("reads again and retries once where someone was in between", async () => {
    const { server, host } = await api();
    let refusals = 1;
    server.on("PUT /api/market/entitlements", (request, response) => {
      if (refusals === 0) return json({ version: 10, entitlements: [full] })(request, response);
      refusals -= 1;
      server.on("GET /api/market/entitlements", json({ version: 9, entitlements: [{ ...full, runs_per_day_max: 6 }] }));
      return problem(412, { code: "version_conflict" })(request, response);
    });
    expect((await entitle(host, "--no-range")).code).toBe(0);
    expect(puts(server).map(({ headers }) => headers["if-match"])).toEqual(['"v7"', '"v9"']);
    expect(rowOf(server)).toEqual({ ...full, version_range: null, runs_per_day_max: 6 });
  });

  test("retries no second time, and not at all with --if-match", async () => {
    const { server, host } = await api();
    server.on("PUT /api/market/entitlements", problem(412, { code: "version_conflict" }));
    expect((await entitle(host)).code).toBe(5);
    expect(puts(server)).toHaveLength(2);
    expect((await entitle(host, "--if-match", "3")).code).toBe(5);
    expect(puts(server)).toHaveLength(3);
    expect(puts(server).at(-1)!.headers["if-match"]).toBe('"v3"');
  });

  test.each([
    [["--range", "newer"], "a range is like"],
    [["--window", "mon 22:00-02:00"], "is two windows"],
    [["--window", "never", "--window", "mon 08:00-09:00"], "stands alone"],
    [["--runs-per-day", "-1"], "whole number"],
  ])("%j is exit code 2, and nothing is sent", async (options, sentence) => {
    const { server, host } = await api();
    const { code, err } = await entitle(host, ...options);
    expect(code).toBe(2);
    expect(err).toContain(sentence);
    expect(puts(server)).toEqual([]);
  });
});

test("market entitlements lists constraints, with and without the word list", async () => {
  const { host } = await api([
    full,
    { ...full, package: "tools/any", version_range: null, run_windows: null, runs_per_day_max: null },
  ]);
  const { out } = await maestro(host, "market", "entitlements");
  expect(out).toContain("tools/sample\tcanary\ttrue\t^1.0.0\tmon-wed 08:00-18:00\t5");
  expect(out).toContain("tools/any\tcanary\ttrue\tany\tany time\tany");
  expect((await maestro(host, "market", "entitlements", "list")).out).toBe(out);
  expect((await maestro(host, "market", "entitlements", "--json")).json()).toMatchObject({ version: 7 });
});

test("market entitlements history asks for one package and tells how to get the next page", async () => {
  const { server, host } = await api();
  const entry = {
    version: 7,
    entitlement: full,
    removed: false,
    principal_id: idOf("pri"),
    reason: "why",
    change_id: null,
    changed_at: at,
  };
  server.on("GET /api/market/entitlements/history", json({ entries: [entry], next_cursor: "c1" }));
  const { out, err } = await maestro(host, "market", "entitlements", "history", name, "--limit", "1");
  expect(out).toContain(`7\t${at}\t${idOf("pri")}\t${name}`);
  expect(err).toContain(`more: maestro market entitlements history ${name} --limit 1 --cursor c1`);
  expect(Object.fromEntries(server.seen.at(-1)!.query)).toEqual({ package: name, limit: "1" });
});

describe("market change", () => {
  const change = {
    id: idOf("chg"),
    state: "proposed",
    entitlements: [full],
    before: null,
    reason: "more",
    proposed_by: idOf("pri"),
    proposed_at: at,
    decided_by: null,
    decided_at: null,
    applied_by: null,
    applied_at: null,
    applied_version: null,
    reverted_by: null,
    reverted_at: null,
    reverted_version: null,
  };

  test("propose sends the whole row with what was changed, and says who is next", async () => {
    const { server, host } = await api();
    server.on("POST /api/market/entitlement-changes", json(change, 201));
    const { code, err } = await maestro(
      host,
      "market",
      "change",
      "propose",
      name,
      "--runs-per-day",
      "9",
      "--reason",
      "more",
    );
    expect(code).toBe(0);
    expect(JSON.parse(server.seen.at(-1)!.body.toString())).toEqual({
      entitlements: [{ ...full, runs_per_day_max: 9 }],
      reason: "more",
    });
    expect(err).toContain(`maestro market change approve ${change.id}`);
  });

  test.each(["approve", "reject", "apply", "revert"])("%s is one call under a key", async (step) => {
    const { server, host } = await api();
    const states: Record<string, string> = {
      approve: "approved",
      reject: "rejected",
      apply: "applied",
      revert: "reverted",
    };
    const before = [{ package: name, entitlement: null }];
    server.on(
      `POST /api/market/entitlement-changes/${change.id}/${step}`,
      json({ ...change, state: states[step], before }),
    );
    const { code, out } = await maestro(host, "market", "change", step, change.id);
    expect(code).toBe(0);
    expect(out).toContain(`state\t${states[step]}`);
    expect(server.seen.at(-1)!.headers["idempotency-key"]).toMatch(/^[0-9a-f-]{36}$/);
  });
});

describe("market explain", () => {
  const explanation = {
    action: "execution.start",
    allow: false,
    rule: "entitlement_missing",
    reasons: ["The tenant has no entitlement to tools/sample."],
    role: "operator",
    roles_allowed: ["admin", "operator"],
    facts: { package: name, entitlement: null, clock: { weekday: "mon", minute: 5 } },
    fixes: [
      {
        rule: "entitlement_missing",
        words: "Have an admin entitle the tenant.",
        method: "PUT",
        path: "/api/market/entitlements",
        body: { entitlements: [{ package: name, channel: "stable", allowed: true }] },
      },
      {
        rule: "not_installed",
        words: "Install it first.",
        method: "POST",
        path: "/api/market/installs",
        body: { package: name },
      },
    ],
    complete: true,
    policy_sha256: "a".repeat(64),
  };

  test("prints the rule, the reasons, the facts, and each fix in words, as a call and as a command", async () => {
    const { server, host } = await api();
    server.on("POST /api/market/explain", json(explanation));
    const { code, out } = await maestro(host, "market", "explain", "execution.start", name, "--install", "site-a");
    expect(code).toBe(0);
    expect(out.split("\n")).toEqual([
      "deny execution.start",
      "The tenant has no entitlement to tools/sample.",
      "rule: entitlement_missing",
      "role: operator; may do this: admin, operator",
      "",
      "decided on",
      "package\ttools/sample",
      "entitlement\t-",
      "clock.weekday\tmon",
      "clock.minute\t5",
      "",
      "what would allow it, all 2",
      "fix: Have an admin entitle the tenant.",
      '     PUT /api/market/entitlements {"entitlements":[{"package":"tools/sample","channel":"stable","allowed":true}]}',
      "     maestro market entitle tools/sample --channel stable",
      "fix: Install it first.",
      '     POST /api/market/installs {"package":"tools/sample"}',
      "     maestro market install tools/sample",
      "",
    ]);
    const asked = server.seen.at(-1)!;
    expect(JSON.parse(asked.body.toString())).toEqual({ action: "execution.start", package: name, install: "site-a" });
    expect(asked.headers["idempotency-key"]).toBeUndefined();
  });

  test("--json has the command beside each fix", async () => {
    const { server, host } = await api();
    server.on("POST /api/market/explain", json(explanation));
    const { json: value } = await maestro(host, "market", "explain", "execution.start", name, "--json");
    expect(value()["fixes"]).toMatchObject([
      { command: "maestro market entitle tools/sample --channel stable" },
      { command: "maestro market install tools/sample" },
    ]);
  });

  test("says where more may be in the way than the caller may see", async () => {
    const { server, host } = await api();
    server.on("POST /api/market/explain", json({ ...explanation, facts: null, complete: false }));
    expect((await maestro(host, "market", "explain", "execution.start")).out).toContain("You may not see all");
  });
});

test("a denial prints the command of its fix", async () => {
  const { server, host } = await api();
  const fix = {
    words: "Unfreeze tools/sample.",
    method: "PUT",
    path: "/api/market/freezes",
    body: { package: name, frozen: false },
  };
  server.on("GET /api/market/status", problem(403, { code: "denied", rule: "package_frozen", fix }));
  const { code, err, json: value } = await maestro(host, "market", "status", name, "--json");
  expect(code).toBe(3);
  expect(err).toContain("     maestro market unfreeze tools/sample\n");
  expect(value()["error"]).toMatchObject({ command: "maestro market unfreeze tools/sample" });
});

test("a denial that no call helps prints its words, and no call or command", async () => {
  const { server, host } = await api();
  const fix = { words: "Ask another person with the role admin.", method: null, path: null, body: null };
  server.on("GET /api/market/status", problem(403, { code: "denied", rule: "own_change", fix }));
  const { code, err, json: value } = await maestro(host, "market", "status", name, "--json");
  expect(code).toBe(3);
  expect(err).toContain("fix: Ask another person with the role admin.\n");
  expect(err).not.toContain("null");
  expect(value()["error"]).not.toHaveProperty("command");
});

test("flags are listed with what off means, and metrics are printed as they come", async () => {
  const { server, host } = await api();
  const flag = {
    flag: "market_channels",
    enabled: false,
    off_means: "stable only",
    changed_at: at,
    changed_by: idOf("pri"),
  };
  server.on("GET /api/flags", json({ flags: [flag] }));
  server.on("PUT /api/flags", json({ flags: [flag] }));
  expect((await maestro(host, "flags")).out).toContain("market_channels\toff");
  expect((await maestro(host, "flags", "set", "market_channels", "off")).code).toBe(0);
  expect(JSON.parse(server.seen.at(-1)!.body.toString())).toEqual({ flag: "market_channels", enabled: false });
  expect((await maestro(host, "flags", "set", "market", "off")).code).toBe(2);
  const text = '# TYPE mc_channel_upgrades_total counter\nmc_channel_upgrades_total{channel="stable"} 1\n';
  server.on("GET /api/metrics", (_request, response) => {
    response.writeHead(200, { "content-type": "text/plain; version=0.0.4" });
    response.end(text);
  });
  expect((await maestro(host, "metrics")).out).toBe(text);
});
