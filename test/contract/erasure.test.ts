// The erasure of a person, on the real stack: nothing tells any more who they were, and everything that they did still
// verifies, in the log and in a pack that was handed out before.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { maestro, testHost, type TestHost } from "../../cli/testing/host.ts";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import { anotherPerson } from "../support/people.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
const packageName = "erasure/echo";

let tenant: SeededTenant;
let owner: pg.Client;
/** Of another admin, who erases. */
let eraser: string;
let home: string;
let execution: string;

beforeAll(async () => {
  tenant = await stack.seedTenant("erasure");
  owner = new pg.Client({ connectionString: stack.databaseUrls.owner });
  await owner.connect();
  eraser = await anotherPerson(stack, tenant, "admin");
  home = join(stack.folder, "erasure");
  mkdirSync(join(home, "package"), { recursive: true });
  const manifest = {
    name: packageName,
    version: "1.0.0",
    channel: "stable",
    entry_point: "main.mjs",
    permissions: { read_input: true },
    privacy_units: 1,
    limits: { wall_ms: 20_000, output_bytes: 10_000, unpacked_bytes: 10_000 },
  };
  writeFileSync(join(home, "package", "maestro.json"), JSON.stringify(manifest));
  writeFileSync(join(home, "package", "main.mjs"), 'process.stdout.write("done");');
  writeFileSync(join(home, "input"), "x");
  const publisher = hostOf(tenant.keys.publisher);
  await ok(publisher, "market", "keygen");
  const release = await ok(publisher, "market", "publish", "package");
  await ok(hostOf(tenant.keys.reviewer), "market", "review", "approve", String(release["id"]));
  const person = hostOf(tenant.keys.admin);
  await ok(person, "market", "entitle", packageName);
  await ok(person, "market", "install", packageName);
  await ok(person, "budget", "set", "--limit", "100", "--leak-per-hour", "0");
  const run = await ok(person, "run", packageName, "input", "--out", "out");
  execution = String((run["execution"] as Record<string, unknown>)["id"]);
});
afterAll(() => owner.end());

const hostOf = (key: string): TestHost =>
  testHost({ home, env: { MAESTRO_API_URL: stack.apiUrl, MAESTRO_API_KEY: key } });

async function ok(host: TestHost, ...argv: string[]): Promise<Record<string, unknown>> {
  const { code, json, err } = await maestro(host, ...argv, "--json");
  expect({ argv, code, err: code === 0 ? "" : err }).toEqual({ argv, code: 0, err: "" });
  return json();
}

const call = (method: string, path: string, key: string): Promise<Response> =>
  fetch(`${stack.apiUrl}${path}`, { method, headers: { authorization: `Bearer ${key}` } });

const erase = (id: string, key: string): Promise<Response> => call("DELETE", `/api/principals/${id}/identities`, key);

const codeOf = async (response: Response): Promise<unknown> =>
  ((await response.json()) as Record<string, unknown>)["code"];

const principalOf = async (key: string): Promise<unknown> =>
  ((await (await call("GET", "/api/whoami", key)).json()) as Record<string, unknown>)["principal_id"];

async function identitiesOf(id: string): Promise<unknown> {
  const { principals } = (await (await call("GET", "/api/principals", eraser)).json()) as {
    principals: { id: string; identities: object[] }[];
  };
  return principals.find((principal) => principal.id === id)?.identities;
}

/** Names of the tables that hold the text anywhere. */
async function tablesWith(text: string): Promise<string[]> {
  const { rows } = await owner.query<{ name: string }>(
    "select relname as name from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r' order by 1",
  );
  const found: string[] = [];
  for (const { name } of rows) {
    // audit_events can hold many other tenants' rows by now; everything else is looked through as a whole.
    const own = name === "audit_events" ? `t.tenant_id = '${tenant.tenant_id}' and` : "";
    const { rowCount } = await owner.query(
      `select 1 from "${name}" t where ${own} strpos(to_jsonb(t)::text, $1) > 0 limit 1`,
      [text],
    );
    if (rowCount !== 0) found.push(name);
  }
  return found;
}

test("an erased person is nobody from the answer on, and every proof of what they did holds", async () => {
  const principalId = tenant.principals.admin;
  const subject = tenant.local_subjects.admin;
  const token = await stack.issueToken({ subject });
  const auditor = hostOf(tenant.keys.auditor);
  await ok(auditor, "disclosure", "get", execution, "--out", "pack.zip");
  const before = await ok(auditor, "audit", "verify");
  expect(await identitiesOf(principalId)).toEqual([{ issuer: stack.issuerUrl, subject }]);
  expect((await call("GET", "/api/whoami", token)).status).toBe(200);
  expect(await tablesWith(subject)).toEqual(["principal_identities"]);

  expect((await erase(principalId, eraser)).status).toBe(204);
  const refused = await call("GET", "/api/whoami", token);
  expect([refused.status, await codeOf(refused)]).toEqual([401, "unauthenticated"]);
  expect(await tablesWith(subject)).toEqual([]);
  expect(await identitiesOf(principalId)).toEqual([]);

  // Again is no second event.
  expect((await erase(principalId, eraser)).status).toBe(204);
  const events = async (): Promise<unknown[]> =>
    (
      await owner.query(
        "select principal, attrs from audit_events where tenant_id = $1 and type = 'mc.principal.erased'",
        [tenant.tenant_id],
      )
    ).rows;
  await expect
    .poll(events, { timeout: 20_000 })
    .toEqual([{ principal: await principalOf(eraser), attrs: JSON.stringify({ principal_id: principalId }) }]);

  const after = await ok(auditor, "audit", "verify", "--out", "copy");
  expect(after).toMatchObject({ verdict: "VERIFIED", remembered: before["head"] });
  expect(await ok(auditor, "audit", "verify", "--dir", "copy")).toMatchObject({ verdict: "VERIFIED" });
  expect(await ok(auditor, "disclosure", "verify", "pack.zip")).toMatchObject({ verdict: "verified" });
  // The log still tells of the same principal, by its pseudonym.
  const { rowCount } = await owner.query("select from audit_events where tenant_id = $1 and principal = $2", [
    tenant.tenant_id,
    principalId,
  ]);
  expect(rowCount).toBeGreaterThan(3);
});

test("nobody erases themselves, another tenant's people, or without being an admin", async () => {
  const own = await maestro(hostOf(tenant.keys.admin), "principals", "erase", tenant.principals.admin, "--json");
  expect([own.code, own.err]).toEqual([5, expect.stringContaining("own_identity") as string]);
  await ok(hostOf(tenant.keys.admin), "principals", "erase", tenant.principals.viewer);
  expect(await identitiesOf(tenant.principals.viewer)).toEqual([]);
  const other = await stack.seedTenant("erasure-other");
  const foreign = await erase(other.principals.viewer, tenant.keys.admin);
  const missing = await erase("pri_00000000000000000000000009", tenant.keys.admin);
  expect([foreign.status, await codeOf(foreign)]).toEqual([404, "not_found"]);
  expect([missing.status, await codeOf(missing)]).toEqual([404, "not_found"]);
  const auditor = await erase(tenant.principals.viewer, tenant.keys.auditor);
  expect([auditor.status, await codeOf(auditor)]).toEqual([403, "role_too_low"]);
  expect((await erase("jane@example.com", tenant.keys.admin)).status).toBe(404);
  expect((await call("GET", "/api/principals", tenant.keys.auditor)).status).toBe(403);
  const [row] = (
    await owner.query<{ n: number }>("select count(*)::int as n from principal_identities where tenant_id = $1", [
      other.tenant_id,
    ])
  ).rows;
  expect(row?.n).toBeGreaterThan(0);
});
