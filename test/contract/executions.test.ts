// Runs over HTTP: started once, finished once, by those who may, within the budget; and what callers get wrong.

import { beforeAll, describe, expect, test } from "vitest";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import { contractOf, type Contract } from "../support/openapi.ts";
import {
  freshKey,
  installPackage,
  jsonCall,
  manifestOf,
  publishRelease,
  registeredSigner,
} from "../support/publisher.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
const free = "executions/free";
const costly = "executions/costly";
let api: Contract;
let tenant: SeededTenant;
let stranger: SeededTenant;

beforeAll(async () => {
  api = await contractOf(stack.apiUrl);
  tenant = await stack.seedTenant("executions");
  stranger = await stack.seedTenant("executions-stranger");
  await installPackage(api, tenant, free);
  await installPackage(api, tenant, costly, 10);
});

const start = (body: unknown = { package: free }, headers: Record<string, string> = {}, key = tenant.keys.operator) =>
  api.fetch("/api/executions", jsonCall(key, "POST", body, headers));
const finish = (
  id: string,
  body: unknown = { outcome: "succeeded" },
  headers: Record<string, string> = {},
  key = tenant.keys.operator,
) => api.fetch(`/api/executions/${id}/finish`, jsonCall(key, "POST", body, headers));
const read = (path: string, key = tenant.keys.viewer) => api.fetch(path, jsonCall(key, "GET"));
const setBudget = (limit: number, leak = 0) =>
  api.fetch(
    "/api/privacy/budget",
    jsonCall(tenant.keys.admin, "PUT", { limit_units: limit, leak_units_per_hour: leak }),
  );
const bare = ({ json }: { json: Record<string, unknown> }) => ({ ...json, request_id: "" });

describe("a run", () => {
  test("starts running and ends once, with what it was told", async () => {
    const started = await start({ package: free, input_sha256: "a".repeat(64) });
    expect(started.json).toMatchObject({
      status: "running",
      package: free,
      version: "1.0.0",
      input_sha256: "a".repeat(64),
      finished_at: null,
    });
    const ended = await finish(started.json.id, { outcome: "failed", exit_code: 3, output_sha256: "b".repeat(64) });
    expect(ended.json).toMatchObject({ status: "failed", exit_code: 3, output_sha256: "b".repeat(64) });
    expect((await read(`/api/executions/${started.json.id}`)).json).toEqual(ended.json);
  });

  test("finishing twice is refused, and the first ending stays", async () => {
    const { id } = (await start()).json;
    const first = await finish(id, { outcome: "succeeded", exit_code: 0 });
    const second = await finish(id, { outcome: "failed", exit_code: 1 });
    expect([second.status, second.json.code]).toEqual([409, "execution_not_running"]);
    expect((await read(`/api/executions/${id}`)).json).toEqual(first.json);
  });

  test("of ten finishes at once with keys of their own, one ends it", async () => {
    const { id } = (await start()).json;
    const answers = await Promise.all(
      Array.from({ length: 10 }, (_, at) => finish(id, { outcome: "succeeded", exit_code: at })),
    );
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(1);
    expect(answers.filter(({ status }) => status === 409)).toHaveLength(9);
  });

  test("of ten finishes at once with one key, all are told the same ending", async () => {
    const { id } = (await start()).json;
    const key = { "idempotency-key": freshKey() };
    const answers = await Promise.all(Array.from({ length: 10 }, () => finish(id, { outcome: "succeeded" }, key)));
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
    expect(new Set(answers.map(({ json }) => json.finished_at)).size).toBe(1);
  });

  test("another tenant's run looks like one that never was: to read, to finish, to disclose", async () => {
    const { id } = (await start()).json;
    const never = "exe_00000000000000000000000000";
    const { operator, viewer } = stranger.keys;
    expect(bare(await read(`/api/executions/${id}`, viewer))).toEqual(
      bare(await read(`/api/executions/${never}`, viewer)),
    );
    const foreign = await finish(id, undefined, {}, operator);
    expect([foreign.status, bare(foreign)]).toEqual([404, bare(await finish(never, undefined, {}, operator))]);
    expect(bare(await read(`/api/executions/${id}/disclosure:link`, operator))).toEqual(
      bare(await read(`/api/executions/${never}/disclosure:link`, operator)),
    );
    expect((await read(`/api/executions/${id}`)).json.status).toBe("running");
  });

  test("the list is newest first, page by page, with every run once", async () => {
    for (let at = 0; at < 5; at += 1) await start();
    const seen: string[] = [];
    let cursor: string | null = null;
    do {
      const page: Awaited<ReturnType<typeof read>> = await read(
        `/api/executions?limit=3${cursor === null ? "" : `&cursor=${encodeURIComponent(cursor)}`}`,
      );
      seen.push(...page.json.executions.map((run: { id: string }) => run.id));
      cursor = page.json.next_cursor;
    } while (cursor !== null);
    const whole = (await read("/api/executions?limit=200")).json.executions as { id: string; started_at: string }[];
    expect(seen).toEqual(whole.map(({ id }) => id));
    expect(whole.map(({ started_at }) => started_at)).toEqual(
      whole
        .map(({ started_at }) => started_at)
        .toSorted()
        .toReversed(),
    );
    const impossible = Buffer.from(JSON.stringify(["0000-01-01T00:00:00.000Z", "exe_00000000000000000000000000"]));
    const odd = [
      "cursor=bm90IG91cnM=",
      `cursor=${impossible.toString("base64url")}`,
      "limit=0",
      "limit=0x10",
      "limit=1e2",
      "limit=201",
    ];
    for (const query of odd) {
      const answer = await read(`/api/executions?${query}`);
      expect([query, answer.status, answer.json.code]).toEqual([query, 400, "invalid_request"]);
    }
  });
});

describe("Idempotency-Key", () => {
  test("is required to start and to finish", async () => {
    const without = await api.fetch("/api/executions", {
      method: "POST",
      headers: { authorization: `Bearer ${tenant.keys.operator}`, "content-type": "application/json" },
      body: JSON.stringify({ package: free }),
    });
    expect([without.status, without.json.code]).toEqual([400, "idempotency_key_missing"]);
  });

  test("the same key and body give the same run, however many ask at once; another body is a conflict", async () => {
    const key = { "idempotency-key": freshKey() };
    const answers = await Promise.all(Array.from({ length: 12 }, () => start({ package: free }, key)));
    expect(new Set(answers.map(({ json }) => json.id)).size).toBe(1);
    expect(answers.every(({ status }) => status === 201)).toBe(true);
    const replayed = await start({ package: free }, key);
    expect(replayed.headers.get("idempotency-replayed")).toBe("true");
    const other = await start({ package: free, input_sha256: "c".repeat(64) }, key);
    expect([other.status, other.json.code]).toEqual([409, "idempotency_conflict"]);
  });

  test("belongs to a tenant, a principal and a route: the same key elsewhere is another one", async () => {
    const key = { "idempotency-key": freshKey() };
    const mine = (await start({ package: free }, key)).json.id;
    expect((await start({ package: free }, key, tenant.keys.admin)).json.id).not.toBe(mine);
    expect((await finish(mine, undefined, key)).status).toBe(200);
  });

  test("a finish told again with its key answers the same", async () => {
    const { id } = (await start()).json;
    const key = { "idempotency-key": freshKey() };
    const first = await finish(id, undefined, key);
    const again = await finish(id, undefined, key);
    expect([again.status, again.json]).toEqual([200, first.json]);
  });
});

describe("what is denied", () => {
  test("a role too low, by its name, and nothing is recorded as run", async () => {
    const answer = await start({ package: free }, {}, tenant.keys.viewer);
    expect([answer.status, answer.json.code, answer.json.role]).toEqual([403, "role_too_low", "viewer"]);
    expect(answer.json.roles_allowed).toContain("operator");
  });

  test("a package that is not entitled, not installed, or not there: each with its rule and fix", async () => {
    const none = await start({ package: "executions/never-heard-of" });
    expect([none.status, none.json.rule]).toEqual([403, "entitlement_missing"]);
    for (const [name, path] of [
      ["executions/not-installed", "/api/market/installs"],
      // What does not exist cannot be installed: in words.
      ["executions/not-there", null],
    ] as const) {
      if (path !== null) await publishRelease(api, tenant, await registeredSigner(api, tenant), manifestOf(name));
      const row = { entitlements: [{ package: name, channel: "stable", allowed: true }] };
      await api.fetch("/api/market/entitlements", jsonCall(tenant.keys.admin, "PUT", row));
      const bare = await start({ package: name });
      expect([bare.status, bare.json.rule, bare.json.fix.path]).toEqual([403, "not_installed", path]);
    }
  });

  test("a budget that is spent: exactly as many runs as fit, however they crowd", async () => {
    await setBudget(35);
    const before = (await read("/api/privacy/budget")).json;
    const answers = await Promise.all(Array.from({ length: 8 }, () => start({ package: costly })));
    const started = answers.filter(({ status }) => status === 201);
    const denied = answers.filter(({ status }) => status === 403);
    expect([started.length, denied.length]).toEqual([
      Math.floor(before.remaining_units / 10),
      8 - Math.floor(before.remaining_units / 10),
    ]);
    for (const answer of denied)
      expect(answer.json).toMatchObject({ code: "privacy_budget_exceeded", rule: "privacy_budget_exceeded" });
    for (const { json } of started) await finish(json.id);
    const after = (await read("/api/privacy/budget")).json;
    expect(after).toMatchObject({ spent_units: before.spent_units + 10 * started.length, held_units: 0 });
    await setBudget(1_000);
    expect((await start({ package: costly })).status).toBe(201);
  });

  test("every deny is in the tenant's log, with its rule and nothing personal", async () => {
    const asked = () =>
      api.fetch(
        "/api/pql",
        jsonCall(tenant.keys.auditor, "POST", {
          query: 'FIND decisions WHERE outcome = "deny" TOP 10 BY rule SINCE 1h',
        }),
      );
    await expect
      .poll(async () => (await asked()).json.groups.map(({ name }: { name: string }) => name).toSorted(), {
        timeout: 20_000,
      })
      .toEqual(["entitlement_missing", "not_installed", "privacy_budget_exceeded", "role_too_low"]);
  });
});

describe("what is not understood changes nothing", () => {
  test.each([
    ["malformed JSON", '{"package":', 400, "malformed_json"],
    ["an unknown field", JSON.stringify({ package: free, extra: 1 }), 400, "invalid_request"],
    ["a wrong type", JSON.stringify({ package: 5 }), 400, "invalid_request"],
    ["NUL", JSON.stringify({ package: "a\u0000b" }), 400, "not_utf8"],
    ["a digest that is none", JSON.stringify({ package: free, input_sha256: "xyz" }), 400, "invalid_request"],
    ["over 1 MiB", JSON.stringify({ package: free, pad: "x".repeat(1024 * 1024) }), 413, "too_large"],
    ["no body", "", 400, "malformed_json"],
  ])("%s", async (_, body, status, code) => {
    const before = (await read("/api/executions?limit=200")).json.executions.length;
    const answer = await api.fetch("/api/executions", { ...jsonCall(tenant.keys.operator, "POST", {}), body });
    expect([answer.status, answer.json.code]).toEqual([status, code]);
    expect((await read("/api/executions?limit=200")).json.executions).toHaveLength(before);
  });

  test.each(["exe_short", "exe_00000000000000000000000000%2F..", "' or 1=1 --", "EXE_00000000000000000000000000"])(
    "the id %j",
    async (id) => {
      const answer = await read(`/api/executions/${encodeURIComponent(id)}`);
      expect(answer.status).toBeOneOf([400, 404]);
    },
  );

  test("disclosure:link is that path, encoded or not, and nothing near it", async () => {
    const { id } = (await start()).json;
    for (const action of ["disclosure:link", "disclosure%3Alink"]) {
      const answer = await read(`/api/executions/${id}/${action}`, tenant.keys.operator);
      expect([action, answer.status, answer.json.code]).toEqual([action, 409, "execution_running"]);
    }
    for (const action of ["disclosureX", "disclosure", "disclosure:linkX"]) {
      const answer = await fetch(
        `${stack.apiUrl}/api/executions/${id}/${action}`,
        jsonCall(tenant.keys.operator, "GET"),
      );
      expect([action, answer.status]).toEqual([action, 404]);
    }
  });
});
