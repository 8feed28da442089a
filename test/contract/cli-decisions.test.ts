// `maestro policy replay` against the real stack: what the policy decided is decided again from what was kept, and what was
// changed since is told.

import { sql } from "drizzle-orm";
import { beforeAll, expect, test } from "vitest";
import { maestro, testFolder, testHost, type TestHost } from "../../cli/testing/host.ts";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import type { Role } from "../../shared/contract/names.ts";
import { databaseAs } from "../support/api.ts";
import { callsAs, TestDomain } from "../support/identities.ts";
import { contractOf, type Contract } from "../support/openapi.ts";
import { installPackage, jsonCall, must } from "../support/publisher.ts";
import { finishedRun } from "../support/runs.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
const owner = databaseAs(stack, "owner");
let api: Contract;
let tenant: SeededTenant;

beforeAll(async () => {
  api = await contractOf(stack.apiUrl);
  tenant = await stack.seedTenant("decisions");
});

const hostOf = (role: Role, of = tenant): TestHost =>
  testHost({ home: testFolder(), env: { MAESTRO_API_URL: stack.apiUrl, MAESTRO_API_KEY: of.keys[role] } });

async function refusedAs(role: Role, path: string, init: RequestInit): Promise<string> {
  const { status, json } = await api.fetch(path, init);
  expect([role, status]).toEqual([role, 403]);
  return json.decision as string;
}

const logged = async (id: string): Promise<void> => {
  const rows = async () =>
    (await owner.execute(sql`select 1 from audit_events where tenant_id = ${tenant.tenant_id} and event_id = ${id}`))
      .rows;
  await expect.poll(rows, { timeout: 20_000 }).toHaveLength(1);
};

/** A fetcher's key, once a fetcher has a SPIFFE ID. */
async function refusedKey(): Promise<string> {
  const domain = await TestDomain.make("decisions.example");
  const admin = callsAs(api, { authorization: `Bearer ${tenant.keys.admin}` });
  must(204, await admin.state(domain.name));
  must(201, await admin.register(`spiffe://${domain.name}/fetcher`, "fetcher"));
  return await refusedAs("fetcher", "/api/whoami", jsonCall(tenant.keys.fetcher, "GET"));
}

test("a denial by role, one by credential, one by facts and the allow of a run are decided again as the log says", async () => {
  const name = "tools/replayed";
  const byRole = await refusedAs("viewer", "/api/keys", jsonCall(tenant.keys.viewer, "POST", { role: "viewer" }));
  const byKey = await refusedKey();
  const start = { package: name };
  const byFacts = await refusedAs("operator", "/api/executions", jsonCall(tenant.keys.operator, "POST", start));
  await installPackage(api, tenant, name);
  const execution = await finishedRun(api, tenant, name);
  const kept = await owner.execute<{ id: string }>(
    sql`select event_id as id from decision_inputs where tenant_id = ${tenant.tenant_id}
        and input::jsonb ->> 'action' = 'execution.start' and event_id <> ${byFacts}`,
  );
  const [allow] = kept.rows.map(({ id }) => id);
  expect(kept.rows).toHaveLength(1);
  const wanted = [
    [byRole, { action: "key.create", outcome: "deny", rule: "role_too_low" }],
    [byKey, { action: "whoami.read", outcome: "deny", rule: "svid_needed" }],
    [byFacts, { action: "execution.start", outcome: "deny", rule: "entitlement_missing" }],
    [allow!, { action: "execution.start", outcome: "allow", rule: "ok", execution_id: execution }],
  ] as const;
  for (const [id, attributes] of wanted) {
    await logged(id);
    const { code, json, err } = await maestro(hostOf("auditor"), "policy", "replay", id, "--json");
    expect([code, err]).toEqual([0, ""]);
    expect(json()).toMatchObject({ id, agrees: true, logged: { attributes }, replayed: { rule: attributes.rule } });
  }
  const words = await maestro(hostOf("auditor"), "policy", "replay", byFacts);
  expect(words.out).toMatch(/logged\s+deny \(entitlement_missing\)\nreplayed\s+deny \(entitlement_missing\)/);
});

test("what was not decided so, or on something else, or by another policy, is told and is no agreement", async () => {
  const path = "/api/keys";
  const id = await refusedAs("viewer", path, jsonCall(tenant.keys.viewer, "POST", { role: "admin" }));
  await logged(id);
  const replayed = async (): Promise<readonly [number, string]> => {
    const { code, err } = await maestro(hostOf("auditor"), "policy", "replay", id);
    return [code, err];
  };
  const setRole = (from: string, to: string) =>
    owner.execute(
      sql`update decision_inputs set input = replace(input, ${`"role":"${from}"`}, ${`"role":"${to}"`})
          where tenant_id = ${tenant.tenant_id} and event_id = ${id}`,
    );
  const setAttributes = (from: string, to: string) =>
    owner.execute(
      sql`update audit_events set attrs = replace(attrs, ${from}, ${to}) where tenant_id = ${tenant.tenant_id} and event_id = ${id}`,
    );
  await setRole("viewer", "auditor");
  expect(await replayed()).toEqual([7, expect.stringContaining("is not the one that was logged")]);
  await setRole("auditor", "viewer");
  await setAttributes('"rule":"role_too_low"', '"rule":"own_release"');
  expect(await replayed()).toEqual([7, expect.stringContaining("does not decide what the log says")]);
  await setAttributes('"rule":"own_release"', '"rule":"role_too_low"');
  expect((await replayed())[0]).toBe(0);
  await owner.execute(
    sql`update audit_events set attrs = regexp_replace(attrs, '"policy_sha256":"[0-9a-f]{64}"', ${`"policy_sha256":"${"0".repeat(64)}"`})
        where tenant_id = ${tenant.tenant_id} and event_id = ${id}`,
  );
  expect(await replayed()).toEqual([2, expect.stringContaining("take the maestro of that time")]);
});

test("is for those who read the log, of their own tenant, for 400 days", async () => {
  const id = await refusedAs("viewer", "/api/keys", jsonCall(tenant.keys.viewer, "POST", { role: "admin" }));
  const asked = async (role: Role, of = tenant): Promise<number> =>
    (await api.fetch(`/api/decisions/${id}`, jsonCall(of.keys[role], "GET"))).status;
  const stranger = await stack.seedTenant("decisions-stranger");
  expect([await asked("auditor"), await asked("publisher"), await asked("admin", stranger)]).toEqual([200, 403, 404]);
  const early = await maestro(hostOf("auditor"), "policy", "replay", "evt_1");
  expect([early.code, early.err]).toEqual([2, expect.stringContaining("26 letters and digits")]);
  const age = (days: number) =>
    owner.execute(sql`update decision_inputs set decided_at = now() - make_interval(days => ${days}::int)
      where tenant_id = ${tenant.tenant_id} and event_id = ${id}`);
  await age(399);
  await stack.runScheduled();
  expect(await asked("auditor")).toBe(200);
  await age(401);
  await stack.runScheduled();
  expect(await asked("auditor")).toBe(404);
});
