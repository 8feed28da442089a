// POST /api/pql through the whole door: roles, bodies, answers, and errors that point into the query.

import { beforeAll, describe, expect, test } from "vitest";
import { pqlAnswer } from "../../shared/contract/http-pql.ts";
import { roleNames, type Role } from "../../shared/contract/names.ts";
import { writeEventRows } from "../../shared/pql/store.ts";
import { useStack } from "../support/stack.ts";
import { connect, rowOf } from "./pql-support.ts";

const stack = useStack();
let keys: Readonly<Record<Role, string>>;
let strangerKeys: Readonly<Record<Role, string>>;

beforeAll(async () => {
  const tenant = await stack.seedTenant("pql-route");
  const stranger = await stack.seedTenant("pql-route-stranger");
  [keys, strangerKeys] = [tenant.keys, stranger.keys];
  const at = (secondsAgo: number): string => new Date(Date.now() - secondsAgo * 1000).toISOString();
  // Far from what the tenants' own logs number.
  const row = (tenantId: string, index: number): ReturnType<typeof rowOf> =>
    rowOf(tenantId, 1_000_000 + index, {
      type: "mc.install.changed",
      package: index % 3 === 0 ? "tools/b" : "tools/a",
      outcome: "installed",
      logged_at: at(600 - index),
    });
  const audit = connect(stack, "audit");
  await writeEventRows(
    audit,
    Array.from({ length: 120 }, (_, index) => row(tenant.tenant_id, index)),
  );
  await writeEventRows(audit, [row(stranger.tenant_id, 0)]);
});

const ask = (key: string, body: unknown): Promise<Response> =>
  fetch(`${stack.apiUrl}/api/pql`, {
    method: "POST",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });

test("a question is answered in the shape of the contract, without an Idempotency-Key", async () => {
  const response = await ask(keys.auditor, { query: "FIND installs BUCKET BY 5m TOP 1 BY package SINCE 1h" });
  expect(response.status).toBe(200);
  const answer = pqlAnswer.parse(await response.json());
  expect(answer).toMatchObject({ kind: "groups", groups: [{ name: "tools/a", total: 80 }], other: 40, total: 120 });
});

test("pages join to the whole, newest first", async () => {
  const query = "FIND installs SINCE 1h";
  const first = pqlAnswer.parse(await (await ask(keys.operator, { query })).json());
  if (first.kind !== "rows") throw new Error("rows were asked for");
  const second = pqlAnswer.parse(await (await ask(keys.operator, { query, cursor: first.next_cursor })).json());
  if (second.kind !== "rows") throw new Error("rows were asked for");
  const numbers = [...first.rows, ...second.rows].map(({ seq }) => Number(seq));
  expect(numbers).toEqual(Array.from({ length: 120 }, (_, index) => 1_000_119 - index));
  expect(second.next_cursor).toBeNull();
});

test("another tenant asking the same sees its own rows", async () => {
  const answer = await (await ask(strangerKeys.admin, { query: "FIND installs TOP 5 BY package SINCE 1h" })).json();
  expect(answer).toMatchObject({ groups: [{ name: "tools/b", total: 1 }], total: 1 });
});

test.each(roleNames)("whether %s may ask is the policy's to say", async (role) => {
  const response = await ask(keys[role], { query: "FIND installs SINCE 1h" });
  expect(response.status).toBe(["admin", "operator", "auditor"].includes(role) ? 200 : 403);
});

describe("refusals", () => {
  test("a query that cannot be run is a problem with the place, what was expected, and what to write", async () => {
    const response = await ask(keys.admin, { query: "FIND installs\nWHERE outcome = installed" });
    expect(response.status).toBe(400);
    expect(response.headers.get("content-type")).toBe("application/problem+json");
    expect(await response.json()).toMatchObject({
      code: "pql_invalid",
      detail: "Strings take double quotes.",
      line: 2,
      column: 17,
      expected: ["a value"],
      suggestion: 'Write "installed".',
    });
  });

  test.each([
    ["no body", "", "malformed_json"],
    ["no query", {}, "invalid_request"],
    ["an empty query", { query: "" }, "invalid_request"],
    ["a query over 16 KiB", { query: `FIND ${"x".repeat(20_000)}` }, "invalid_request"],
    ["an unknown member", { query: "FIND events", tenant_id: "x" }, "invalid_request"],
    ["a query of another type", { query: ["FIND events"] }, "invalid_request"],
    ["a foreign cursor", { query: "FIND events", cursor: "abc" }, "invalid_request"],
  ])("%s", async (_, body, code) => {
    const response = await ask(keys.admin, body);
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ code });
  });

  test("half a surrogate pair, which JSON can carry and UTF-8 cannot, never reaches the database", async () => {
    const response = await ask(keys.admin, String.raw`{"query":"FIND events WHERE rule = \"\ud83c\""}`);
    expect(response.status).toBe(400);
  });
});
