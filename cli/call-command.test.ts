// Every fix that the policy proposes has a `maestro` command, and that command, read by a real shell, makes that very call.

import { execFileSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { cpSync } from "node:fs";
import { join, resolve } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { z } from "zod";
import { entitlementUpsert, type Entitlement } from "../shared/contract/http-entitlements.ts";
import { flagChange } from "../shared/contract/http-flags.ts";
import {
  barRequest,
  freezeRequest,
  installRequest,
  pinRequest,
  rollbackRequest,
  upgradeRequest,
} from "../shared/contract/http-installs.ts";
import { channelMove } from "../shared/contract/http-market.ts";
import { privacyBudgetPut } from "../shared/contract/http-privacy.ts";
import { newApiKeyRequest } from "../shared/contract/http-tenancy.ts";
import { isDeep } from "../test/support/sampled.ts";
import { commandOfCall, folderWord, type ApiCall } from "./call-command.ts";
import { shellLine } from "./shell-words.ts";
import { maestro, testHost, type TestHost } from "./testing/host.ts";
import { apiKey } from "./testing/market.ts";
import { json, problem, testServer, type TestServer } from "./testing/server.ts";

const project = resolve(import.meta.dirname, "..");

/** What a shell makes of a line, word by word. */
const wordsOf = (line: string): string[] =>
  execFileSync("sh", ["-c", `for word in ${line}; do printf '%s\\0' "$word"; done`], { encoding: "utf8" })
    .split("\0")
    .slice(0, -1);

/** What the fake API takes; each refuses with a problem of its own, so that the command ends after the call. */
const bodies: Readonly<Record<string, z.ZodType>> = {
  "PUT /api/market/entitlements": entitlementUpsert,
  "POST /api/market/installs": installRequest,
  "POST /api/market/upgrades": upgradeRequest,
  "POST /api/market/rollbacks": rollbackRequest,
  "PUT /api/market/freezes": freezeRequest,
  "PUT /api/market/pins": pinRequest,
  "PUT /api/market/bars": barRequest,
  "POST /api/market/channels": channelMove,
  "PUT /api/flags": flagChange,
  "POST /api/keys": newApiKeyRequest,
  "PUT /api/privacy/budget": privacyBudgetPut,
};

async function fakeApi(rows: readonly Entitlement[]): Promise<{ server: TestServer; host: TestHost }> {
  const server = await testServer();
  server.on("GET /api/market/entitlements", json({ version: 7, entitlements: rows }));
  server.on("GET /api/audit/keys", json({ origin_prefix: "maestro.local/log", keys: [] }));
  server.on("POST /api/market/publisher-keys", problem(418, { title: "Taken" }));
  for (const route of [...Object.keys(bodies), "POST /api/market/releases"]) {
    server.on(route, problem(418, { title: "Taken" }));
  }
  return { server, host: testHost({ env: { MAESTRO_API_URL: server.url, MAESTRO_API_KEY: apiKey } }) };
}

const changes = (server: TestServer) => server.seen.filter(({ method }) => method !== "GET");

/** Runs the command of a call and expects the fake API to have seen that call. */
async function expectThatCall(call: ApiCall, rows: readonly Entitlement[] = []): Promise<string> {
  const command = commandOfCall(call);
  if (command === null) throw new Error(`no command for ${call.method} ${call.path}`);
  const { server, host } = await fakeApi(rows);
  const [program, ...argv] = wordsOf(command);
  expect(program).toBe("maestro");
  const { err } = await maestro(host, ...argv);
  expect(err).toContain("Taken");
  const [made, ...more] = changes(server);
  expect(more).toEqual([]);
  const schema = bodies[`${call.method} ${call.path}`]!;
  expect(`${made!.method} ${made!.path}`).toBe(`${call.method} ${call.path}`);
  expect(schema.parse(JSON.parse(made!.body.toString()))).toEqual(schema.parse(call.body));
  return command;
}

const name = "tools/sbom-inventory";
const row: Entitlement = {
  package: name,
  channel: "stable",
  allowed: true,
  version_range: null,
  run_windows: null,
  runs_per_day_max: null,
};
const entitle = (entitlement: unknown, reason?: string): ApiCall => ({
  method: "PUT",
  path: "/api/market/entitlements",
  body: { entitlements: [entitlement], ...(reason === undefined ? {} : { reason }) },
});

describe("the command of an API call makes that call", () => {
  const put = (path: string, body: unknown): ApiCall => ({ method: "PUT", path, body });
  const post = (path: string, body: unknown): ApiCall => ({ method: "POST", path, body });
  const calls: readonly (readonly [string, ApiCall])[] = [
    ["maestro market install tools/sbom-inventory", post("/api/market/installs", { package: name })],
    [
      "maestro market install tools/sbom-inventory --channel canary --name site-a",
      post("/api/market/installs", { package: name, channel: "canary", name: "site-a" }),
    ],
    ["maestro market unpin tools/sbom-inventory", put("/api/market/pins", { package: name, pinned: false })],
    [
      "maestro market pin tools/sbom-inventory --install site-a",
      put("/api/market/pins", { package: name, install: "site-a", pinned: true }),
    ],
    [
      "maestro market unbar tools/sbom-inventory 1.1.0 --reason 'known to be good'",
      put("/api/market/bars", { package: name, version: "1.1.0", barred: false, reason: "known to be good" }),
    ],
    [
      String.raw`maestro market bar tools/sbom-inventory 1.1.0 --reason 'it'\''s $(broken)'`,
      put("/api/market/bars", { package: name, version: "1.1.0", barred: true, reason: "it's $(broken)" }),
    ],
    ["maestro market unfreeze tools/sbom-inventory", put("/api/market/freezes", { package: name, frozen: false })],
    [
      "maestro market freeze tools/sbom-inventory --reason audit",
      put("/api/market/freezes", { package: name, frozen: true, reason: "audit" }),
    ],
    ["maestro flags set market_channels on", put("/api/flags", { flag: "market_channels", enabled: true })],
    ["maestro flags set market_entitlements off", put("/api/flags", { flag: "market_entitlements", enabled: false })],
    ["maestro keys create --role operator", post("/api/keys", { role: "operator" })],
    [
      "maestro keys create --role reviewer --expires-in-days 7",
      post("/api/keys", { role: "reviewer", expires_in_days: 7 }),
    ],
    [
      "maestro market promote tools/sbom-inventory 1.0.0 --channel canary --down",
      post("/api/market/channels", { package: name, channel: "canary", version: "1.0.0", down: true }),
    ],
    [
      "maestro market promote tools/sbom-inventory 1.1.0",
      post("/api/market/channels", { package: name, channel: "stable", version: "1.1.0" }),
    ],
    [
      "maestro market upgrade tools/sbom-inventory --channel canary --cohort 25 --despite-gate",
      post("/api/market/upgrades", { package: name, channel: "canary", cohort_percent: 25, despite_gate: true }),
    ],
    ["maestro market upgrade tools/sbom-inventory", post("/api/market/upgrades", { package: name })],
    [
      "maestro market rollback tools/sbom-inventory --to 1.0.0 --install site-a --reason 'wrong hashes'",
      post("/api/market/rollbacks", { package: name, to_version: "1.0.0", install: "site-a", reason: "wrong hashes" }),
    ],
    [
      "maestro budget set --limit 30 --leak-per-hour 0",
      put("/api/privacy/budget", { limit_units: 30, leak_units_per_hour: 0 }),
    ],
    [
      "maestro market entitle tools/sbom-inventory --channel stable",
      entitle({ package: name, channel: "stable", allowed: true }),
    ],
    [
      "maestro market entitle tools/sbom-inventory --channel canary --range '>=1.0.0 <2.0.0 || 2.1.0' --window 'mon-fri 08:00-18:00' --window 'sat 09:00-12:00' --runs-per-day 5",
      entitle({
        package: name,
        channel: "canary",
        allowed: true,
        version_range: ">=1.0.0 <2.0.0 || 2.1.0",
        run_windows: [
          { days: ["mon", "tue", "wed", "thu", "fri"], from: "08:00", to: "18:00" },
          { days: ["sat"], from: "09:00", to: "12:00" },
        ],
        runs_per_day_max: 5,
      }),
    ],
    [
      "maestro market entitle tools/sbom-inventory --channel stable --deny --window never --runs-per-day 0 --reason why",
      entitle({ package: name, channel: "stable", allowed: false, run_windows: [], runs_per_day_max: 0 }, "why"),
    ],
  ];
  test.each(calls)("%s", async (command, call) => {
    expect(await expectThatCall(call)).toBe(command);
  });

  test("constraints that the row has and the call sets to null are taken away", async () => {
    const constrained: Entitlement = {
      ...row,
      version_range: "^1.0.0",
      run_windows: [{ days: ["mon"], from: "00:00", to: "01:00" }],
      runs_per_day_max: 1,
    };
    expect(await expectThatCall(entitle(row), [constrained])).toBe(
      "maestro market entitle tools/sbom-inventory --channel stable --no-range --no-window --no-runs-per-day",
    );
  });

  test("a release is published from a folder that only the publisher knows", async () => {
    const command = commandOfCall({ method: "POST", path: "/api/market/releases", body: null });
    expect(command).toBe(`maestro market publish ${folderWord}`);
    const { server, host } = await fakeApi([]);
    await maestro(host, "market", "keygen");
    cpSync(join(project, "test", "fixtures", "sbom-inventory"), join(host.home, folderWord), { recursive: true });
    const { err } = await maestro(host, ...wordsOf(command!).slice(1));
    expect(err).toContain("Taken");
    expect(changes(server).at(-1)).toMatchObject({ method: "POST", path: "/api/market/releases" });
  });

  test("the policy proposes no call that has no command", () => {
    const folder = join(project, "policy", "rego");
    const proposed = readdirSync(folder)
      .filter((file) => file.endsWith(".rego") && !file.endsWith("_test.rego"))
      .flatMap((file) => [
        ...readFileSync(join(folder, file), "utf8").matchAll(/"method": "(\w+)",\s*"path": "([^"]+)"/g),
      ])
      .map(([, method, path]) => `${method} ${path}`);
    const known = new Set([...Object.keys(bodies), "POST /api/market/releases"]);
    expect(proposed.length).toBeGreaterThanOrEqual(10);
    expect(proposed.filter((call) => !known.has(call))).toEqual([]);
  });

  test("a call that the contract does not know, or whose text cannot be shown as it is, has none", () => {
    const freeze = (reason: string): ApiCall => ({
      method: "PUT",
      path: "/api/market/freezes",
      body: { package: name, frozen: true, reason },
    });
    expect(commandOfCall(freeze("plain"))).not.toBeNull();
    expect(commandOfCall(freeze("\u001B[2Jrm"))).toBeNull();
    expect(commandOfCall(freeze("one\nother"))).toBeNull();
    expect(
      commandOfCall({ method: "PUT", path: "/api/market/freezes", body: { package: "a b", frozen: true } }),
    ).toBeNull();
    expect(commandOfCall({ method: "PUT", path: "/api/market/freezes", body: null })).toBeNull();
    expect(commandOfCall({ method: "DELETE", path: "/api/keys/key_1", body: null })).toBeNull();
    expect(commandOfCall(entitle([row, row]))).toBeNull();
  });
});

describe("a line for the shell", () => {
  test("is read back as the words that it was made of", () => {
    const word = fc.oneof(
      fc.string({ unit: "grapheme-ascii", maxLength: 20 }),
      fc.constantFrom("-x", "--reason", "", "~", "a=b", "$HOME", "`id`", "!!", "*", "\\", "'", '"', "#", "é"),
    );
    fc.assert(
      fc.property(fc.array(word, { minLength: 1, maxLength: 6 }), (words) => {
        expect(wordsOf(shellLine(words))).toEqual(words);
      }),
      { numRuns: isDeep ? 50 : 15 },
    );
  });

  test("carries a reason to the API as it is, also one that looks like an option", async () => {
    for (const reason of ["--to", "-", "$(id) `id` 'x' \"y\" \\ !! *", "ünï"]) {
      const command = await expectThatCall({
        method: "PUT",
        path: "/api/market/freezes",
        body: { package: name, frozen: true, reason },
      });
      expect(wordsOf(command).at(-1)).toBe(reason);
    }
  });
});
