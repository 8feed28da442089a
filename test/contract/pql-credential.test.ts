// Questions by a key that the isolate remembers: one round trip, and still no word to a key that is revoked, expired, or of a
// principal who was disabled or has another role, whatever the question would have come to.

import { neonConfig } from "@neondatabase/serverless";
import { sql } from "drizzle-orm";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import { AnswerCache } from "../../shared/pql/answer-cache.ts";
import { limits } from "../../shared/pql/limits.ts";
import { hourMs } from "../../shared/pql/scan-parts.ts";
import { writeEventRows } from "../../shared/pql/store.ts";
import { apiKeyDigest } from "../../shared/tenancy/api-key.ts";
import { CallerMemory } from "../../shared/tenancy/caller-memory.ts";
import { inBatch, type Condition } from "../../shared/tenancy/database.ts";
import { databaseAs, localApi, type LocalApi } from "../support/api.ts";
import { contractOf, type CheckedAnswer, type Contract } from "../support/openapi.ts";
import { freshKey, jsonCall } from "../support/publisher.ts";
import { useStack } from "../support/stack.ts";
import { connect, rowOf } from "./pql-support.ts";

const stack = useStack();
/** The hour before this one: its events are asked for as a whole, whatever the minute now. */
const lastHour = Math.floor(Date.now() / hourMs) * hourMs - hourMs;
let api: Contract;
let tenant: SeededTenant;
let costly: SeededTenant;

const asOwner = (statement: Condition): Promise<unknown> => inBatch(databaseAs(stack, "owner"), [statement]);

async function makeKey(of: SeededTenant, role: string): Promise<{ id: string; key: string; principal_id: string }> {
  const headers = { "idempotency-key": freshKey() };
  const made = await api.fetch("/api/keys", jsonCall(of.keys.admin, "POST", { role }, headers));
  expect(made.status).toBe(201);
  return made.json as { id: string; key: string; principal_id: string };
}
const revoke = async (of: SeededTenant, id: string): Promise<void> => {
  expect((await api.fetch(`/api/keys/${id}`, jsonCall(of.keys.admin, "DELETE"))).status).toBe(204);
};

beforeAll(async () => {
  api = await contractOf(stack.apiUrl);
  tenant = await stack.seedTenant("pql-credential");
  costly = await stack.seedTenant("pql-credential-costly");
  const rows = Array.from({ length: 20 }, (_, index) =>
    rowOf(tenant.tenant_id, 1_000_000 + index, {
      type: "mc.install.changed",
      package: "tools/a",
      logged_at: new Date(lastHour + index * 1_000).toISOString(),
    }),
  );
  await writeEventRows(connect(stack, "audit"), rows);
  const reported = { indexed_seq: 2_000_000, indexed_to: lastHour + 19_000, sealed_to: null, days: [] };
  const hour = { hour: lastHour, type: "mc.install.changed", groups: 0 } as const;
  await stack.meter(tenant.tenant_id).report({ ...reported, hours: [{ ...hour, rows: 20 }] });
  await stack.meter(costly.tenant_id).report({ ...reported, hours: [{ ...hour, rows: limits.priceRowsMax + 1 }] });
});

const counts = "FIND installs BUCKET BY 1d SINCE 2d";

describe("on the stack, a key that was revoked since its last question is refused at once", () => {
  const ask = (key: string, body: unknown, headers: Record<string, string> = {}): Promise<CheckedAnswer> =>
    api.fetch("/api/pql", jsonCall(key, "POST", body, headers));
  const refusal = ["action", "code", "detail", "request_id", "status", "title", "type"];
  const cases: [string, number, unknown][] = [
    ["that would be read", 200, { query: "FIND installs TOP 5 BY package SINCE 3h" }],
    ["of rows", 200, { query: "FIND installs SINCE 3h" }],
    ["that is held", 200, { query: counts }],
    ["that is only explained", 200, { query: "FIND installs SINCE 3h", explain: true }],
    ["that does not parse", 400, { query: "FIND installs WHERE" }],
    ["that is no question", 400, { ask: "FIND installs" }],
    ["with a foreign cursor", 400, { query: "FIND installs", cursor: "abc" }],
  ];
  test.each(cases)("whatever became of one %s", async (_, status, body) => {
    const { id, key } = await makeKey(tenant, "auditor");
    for (let count = 0; count < 3; count += 1) expect((await ask(key, body)).status).toBe(status);
    await revoke(tenant, id);
    for (let count = 0; count < 2; count += 1) {
      const refused = await ask(key, body);
      expect([refused.status, refused.json.code]).toEqual([401, "key_revoked"]);
      expect(Object.keys(refused.json).sort()).toEqual(refusal);
    }
  });

  test("a 304 as well", async () => {
    const { id, key } = await makeKey(tenant, "auditor");
    const headers = { "if-none-match": (await ask(key, { query: counts })).headers.get("etag")! };
    expect((await ask(key, { query: counts }, headers)).status).toBe(304);
    await revoke(tenant, id);
    expect((await ask(key, { query: counts }, headers)).status).toBe(401);
  });

  test("a question over its limit as well", async () => {
    const { id, key } = await makeKey(costly, "auditor");
    const body = { query: "FIND installs TOP 5 BY rule SINCE 6h" };
    for (let count = 0; count < 2; count += 1) expect((await ask(key, body)).json.code).toBe("pql_too_expensive");
    await revoke(costly, id);
    const refused = await ask(key, body);
    expect([refused.status, refused.json.code]).toEqual([401, "key_revoked"]);
  });

  test("a role that may not ask as well", async () => {
    const { id, key } = await makeKey(tenant, "viewer");
    const body = { query: counts };
    for (let count = 0; count < 2; count += 1) expect((await ask(key, body)).json.code).toBe("role_too_low");
    await revoke(tenant, id);
    expect((await ask(key, body)).json.code).toBe("key_revoked");
  });
});

describe("in this process, where round trips can be counted", () => {
  let now: number;
  let trips: string[];
  let broken: ((statements: unknown) => boolean) | null;
  let local: LocalApi;
  let callers: CallerMemory;
  let noted: unknown[];
  const direct = neonConfig.fetchFunction as unknown;

  beforeEach(async () => {
    now = Date.now();
    trips = [];
    broken = null;
    noted = [];
    callers = new CallerMemory();
    local = await localApi(stack, {
      clock: () => now,
      callers,
      meter: (tenantId: string) => stack.meter(tenantId),
      noteQueryTime: (_: string, time: unknown) => void noted.push(time),
      answers: new AnswerCache(),
      // The flag's own way is in pql-formats.test.ts.
      pqlGrammar: { get: () => true },
    });
    neonConfig.fetchFunction = async (input: string, init: RequestInit): Promise<Response> => {
      const role = /maestro_(\w+):/.exec(new Headers(init.headers).get("neon-connection-string") ?? "")?.[1] ?? "?";
      trips.push(role);
      if (broken?.(init.body)) throw new TypeError("fetch failed");
      return await fetch(input, init);
    };
  });
  afterAll(() => {
    neonConfig.fetchFunction = direct;
  });

  const ask = async (key: string, body: unknown = { query: "FIND installs TOP 5 BY package SINCE 3h" }, of = local) => {
    trips = [];
    const response = await of.fetch("/api/pql", jsonCall(key, "POST", body));
    const json = (await response.json()) as Record<string, unknown>;
    return { status: response.status, code: json["code"], json, trips };
  };
  const answered = async (key: string): Promise<void> => {
    expect(await ask(key)).toMatchObject({ status: 200, json: { total: 20 } });
  };

  test("a question is one round trip for thirty seconds after its key was looked up, and two then", async () => {
    const key = tenant.keys.auditor;
    const tripsAfter = async (ms: number): Promise<string[]> => {
      now += ms;
      const { status, trips } = await ask(key);
      expect(status).toBe(200);
      return trips;
    };
    expect(await tripsAfter(0)).toEqual(["auth", "app"]);
    expect(await tripsAfter(1)).toEqual(["app"]);
    expect(await tripsAfter(29_998)).toEqual(["app"]);
    expect(await tripsAfter(1)).toEqual(["auth", "app"]);
    expect(await tripsAfter(-1)).toEqual(["auth", "app"]);
  });

  test("what nothing is read for is looked up afterwards, in one round trip", async () => {
    const key = tenant.keys.auditor;
    await answered(key);
    expect(await ask(key, { query: "FIND" })).toMatchObject({ code: "pql_invalid", trips: ["auth"] });
    const explained = { query: "FIND installs SINCE 3h", explain: true };
    expect(await ask(key, explained)).toMatchObject({ status: 200, trips: ["auth"] });
    // An answer is kept once the log has come to rest: what the tests before have done may still be on its way there.
    const secondOfTwo = async (): Promise<unknown> => {
      now = Date.now();
      expect(await ask(key, { query: counts })).toMatchObject({ status: 200 });
      return await ask(key, { query: counts });
    };
    await expect.poll(secondOfTwo, { timeout: 15_000 }).toMatchObject({ status: 200, trips: ["auth"] });
  });

  test("a token is looked up each time", async () => {
    const token = await stack.issueToken({ subject: tenant.local_subjects.auditor });
    for (let count = 0; count < 2; count += 1) expect((await ask(token)).trips).toEqual(["auth", "app"]);
  });

  test("another route looks the key up each time, and its look-up is remembered", async () => {
    for (let count = 0; count < 2; count += 1) {
      trips = [];
      const headers = { authorization: `Bearer ${tenant.keys.auditor}` };
      expect((await local.fetch("/api/whoami", { headers })).status).toBe(200);
      expect(trips).toEqual(["auth"]);
    }
    expect((await ask(tenant.keys.auditor)).trips).toEqual(["app"]);
  });

  test("a key that was revoked reads once more at most, is told nothing, and its question is not counted", async () => {
    const { id, key } = await makeKey(tenant, "auditor");
    await answered(key);
    await revoke(tenant, id);
    noted = [];
    expect(await ask(key)).toMatchObject({ status: 401, code: "key_revoked", trips: ["app", "auth"] });
    expect(await ask(key)).toMatchObject({ status: 401, code: "key_revoked", trips: ["auth"] });
    expect(noted).toEqual([]);
    const [, line] = local.logged.filter(({ message }) => message === "request");
    expect(line?.fields).toMatchObject({ tenant_id: null, principal_id: null, code: "key_revoked", status: 401 });
  });

  test("a key that expires does so at the instant", async () => {
    const { id, key } = await makeKey(tenant, "auditor");
    await answered(key);
    const expiry = now + 1_000;
    await asOwner(
      sql`update api_keys set expires_at = ${new Date(expiry).toISOString()}::timestamptz where id = ${id}`,
    );
    now = expiry - 1;
    expect(await ask(key)).toMatchObject({ status: 200, trips: ["app"] });
    now = expiry;
    expect(await ask(key)).toMatchObject({ status: 401, code: "key_expired", trips: ["app", "auth"] });
  });

  test("a principal who was disabled is refused", async () => {
    const { key, principal_id } = await makeKey(tenant, "auditor");
    await answered(key);
    await asOwner(sql`update principals set disabled_at = now() where id = ${principal_id}`);
    expect(await ask(key)).toMatchObject({ code: "principal_disabled", trips: ["app", "auth"] });
  });

  test("a role that was taken is denied and told to the log; one that was given is allowed", async () => {
    const { key, principal_id } = await makeKey(tenant, "auditor");
    await answered(key);
    await asOwner(sql`update principals set role = 'viewer' where id = ${principal_id}`);
    // The last round trip commits the event of the deny.
    expect(await ask(key)).toMatchObject({ status: 403, code: "role_too_low", trips: ["app", "auth", "app"] });
    expect(await ask(key)).toMatchObject({ status: 403, code: "role_too_low", trips: ["auth", "app"] });
    await asOwner(sql`update principals set role = 'operator' where id = ${principal_id}`);
    expect(await ask(key)).toMatchObject({ status: 200, trips: ["auth", "app"] });
    await asOwner(sql`update principals set role = 'admin' where id = ${principal_id}`);
    expect(await ask(key)).toMatchObject({ status: 200, json: { total: 20 }, trips: ["app", "auth", "app"] });
    await asOwner(sql`update principals set kind = 'person' where id = ${principal_id}`);
    expect(await ask(key)).toMatchObject({ status: 200, trips: ["app", "auth", "app"] });
  });

  test("a tenant with another slug is looked up anew", async () => {
    const renamed = await stack.seedTenant("pql-credential-renamed");
    const { key } = await makeKey(renamed, "auditor");
    expect((await ask(key)).trips).toEqual(["auth", "app"]);
    await asOwner(sql`update tenants set slug = 'pql-credential-named-anew' where id = ${renamed.tenant_id}::uuid`);
    expect(await ask(key)).toMatchObject({ status: 200, trips: ["app", "auth", "app"] });
    expect((await ask(key)).trips).toEqual(["app"]);
  });

  test("a memory that is wrong about the tenant lets nobody see another tenant's rows", async () => {
    const { key, principal_id } = await makeKey(costly, "auditor");
    const wrong = { tenant_id: tenant.tenant_id, tenant: "pql-credential", kind: "service", role: "auditor" } as const;
    const fetcher_svids = { registered: false, everywhere: true };
    const byKey = { credential: "key", fetcher_svids, spiffe_id: null, spiffe_domain: null } as const;
    callers.set(await apiKeyDigest(key), { ...wrong, principal_id, ...byKey }, now);
    expect(await ask(key, { query: "FIND installs SINCE 3h" })).toMatchObject({
      status: 200,
      json: { rows: [] },
      trips: ["app", "auth", "app"],
    });
  });

  test("where the database does not answer the question is refused as ever, and answered when it is back", async () => {
    const key = tenant.keys.auditor;
    await answered(key);
    broken = () => true;
    expect(await ask(key)).toMatchObject({ status: 503, code: "database_unavailable", trips: ["app", "auth"] });
    broken = (statements) => /audit_events/.test(statements as string);
    await ask(key);
    expect(await ask(key)).toMatchObject({ status: 503, code: "database_unavailable", trips: ["app", "auth"] });
    broken = null;
    expect(await ask(key)).toMatchObject({ status: 200, trips: ["app"] });
  });
});
