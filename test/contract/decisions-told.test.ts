// The log has every decision: denies and the allows of changes with what they led to, allowed reads in batches.

import { sql } from "drizzle-orm";
import { beforeAll, expect, test } from "vitest";
import { maestro, testFolder, testHost } from "../../cli/testing/host.ts";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import type { AuditEvent } from "../../shared/contract/events.ts";
import { outboxInsert } from "../../shared/outbox/outbox.ts";
import { asTenant, inBatch, type Row } from "../../shared/tenancy/database.ts";
import { DecisionNotes } from "../../workers/api/decision-notes.ts";
import { databaseAs, localApi } from "../support/api.ts";
import { contractOf, type Contract } from "../support/openapi.ts";
import { loadCommittedPolicy } from "../support/policy.ts";
import { freshKey, installPackage, jsonCall, must } from "../support/publisher.ts";
import { finishedRun } from "../support/runs.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
const owner = databaseAs(stack, "owner");
const app = databaseAs(stack, "app");
let api: Contract;
let tenant: SeededTenant;

beforeAll(async () => {
  api = await contractOf(stack.apiUrl);
  tenant = await stack.seedTenant("decisions-told");
});

const events = async (condition = sql`true`): Promise<Row[]> =>
  (
    await inBatch(owner, [
      sql`select seq::float8 as seq, event_id, type, source, occurred_at::text as at, principal, attrs::jsonb as attrs from audit_events
          where tenant_id = ${tenant.tenant_id} and ${condition} order by seq`,
    ])
  )[0] ?? [];

/** All that the tenant's outbox had is in the log, and what the objects sent. */
async function loggedUntil(type: string, count: number): Promise<void> {
  await expect.poll(async () => (await events(sql`type = ${type}`)).length, { timeout: 20_000 }).toBe(count);
  const waiting = async () =>
    (await inBatch(owner, [sql`select 1 from outbox where tenant_id = ${tenant.tenant_id}`]))[0];
  await expect.poll(waiting, { timeout: 20_000 }).toEqual([]);
}

const decisions = (action: string): Promise<Row[]> =>
  events(sql`type = 'mc.policy.decision' and attrs::jsonb ->> 'action' = ${action}`);

test("no change is in the log without the decision that allowed it, and what that was made on is kept", async () => {
  const { keys } = tenant;
  const name = "tools/told";
  await installPackage(api, tenant, name);
  await finishedRun(api, tenant, name);
  const made = must(201, await api.fetch("/api/keys", jsonCall(keys.admin, "POST", { role: "viewer" })));
  must(204, await api.fetch(`/api/keys/${made.json.id as string}`, jsonCall(keys.admin, "DELETE")));
  const freeze = { package: name, frozen: true };
  must(200, await api.fetch("/api/market/freezes", jsonCall(keys.operator, "PUT", freeze)));
  await loggedUntil("mc.package.frozen", 1);
  const changes = await events(sql`source = 'api' and type <> 'mc.policy.decision' and principal is not null`);
  const told = await events(sql`type = 'mc.policy.decision'`);
  expect(new Set(changes.map(({ type }) => type)).size).toBeGreaterThan(7);
  const actionOf = (one: Row): unknown => (one["attrs"] as Record<string, unknown>)["action"];
  for (const { seq, type, at, principal } of changes) {
    // An object has a clock of its own: its change is told by its action.
    const isOf = (one: Row): boolean =>
      type === "mc.entitlement.changed" ? actionOf(one) === "entitlement.write" : one["at"] === at;
    const decision = told.find((one) => isOf(one) && one["principal"] === principal);
    expect([type, decision?.["attrs"]]).toEqual([type, expect.objectContaining({ outcome: "allow" })]);
    expect([type, Number(decision?.["seq"]) < Number(seq)]).toEqual([type, true]);
  }
  const [unkept] = await inBatch(owner, [
    sql`select e.event_id from audit_events e left join decision_inputs k on k.tenant_id = e.tenant_id and k.event_id = e.event_id
        where e.tenant_id = ${tenant.tenant_id} and e.type = 'mc.policy.decision' and k.event_id is null`,
  ]);
  expect(unkept).toEqual([]);
});

test("a change that an object commits has its decision in the log before it", async () => {
  const { keys } = tenant;
  const budget = { limit_units: 50, leak_units_per_hour: 0 };
  must(200, await api.fetch("/api/privacy/budget", jsonCall(keys.admin, "PUT", budget)));
  const flag = { flag: "market_channels", enabled: false };
  must(200, await api.fetch("/api/flags", jsonCall(keys.admin, "PUT", flag)));
  await expect.poll(async () => (await decisions("budget.write")).length, { timeout: 20_000 }).toBe(1);
  await expect.poll(async () => (await decisions("flag.write")).length, { timeout: 20_000 }).toBe(1);
  const [wish] = await decisions("flag.write");
  await loggedUntil("mc.flag.changed", 1);
  const [changed] = await events(sql`type = 'mc.flag.changed'`);
  expect(Number(wish?.["seq"])).toBeLessThan(Number(changed?.["seq"]));
});

test("one Idempotency-Key has one decision, and what changes nothing has none", async () => {
  const { keys } = tenant;
  const before = (await decisions("key.create")).length;
  const headers = { "idempotency-key": freshKey() };
  const create = () => api.fetch("/api/keys", jsonCall(keys.admin, "POST", { role: "auditor" }, headers));
  const first = must(201, await create());
  expect(must(201, await create()).json.id).toBe(first.json.id);
  must(400, await api.fetch("/api/keys", jsonCall(keys.admin, "POST", { role: "emperor" })));
  must(404, await api.fetch("/api/keys/key_00000000000000000000000000", jsonCall(keys.admin, "DELETE")));
  const path = `/api/keys/${first.json.id as string}`;
  const revoked = (await decisions("key.revoke")).length;
  for (const _ of [1, 2]) must(204, await api.fetch(path, jsonCall(keys.admin, "DELETE")));
  await expect.poll(async () => (await decisions("key.revoke")).length, { timeout: 20_000 }).toBe(revoked + 1);
  await loggedUntil("mc.key.revoked", revoked + 1);
  expect((await decisions("key.create")).length).toBe(before + 1);
});

test("allowed reads come as one event with their count, and can be replayed as any decision; the policy is asked once for each read", async () => {
  const { sha256 } = await loadCommittedPolicy();
  const batch = Promise.withResolvers<void>();
  const running: Promise<void>[] = [];
  const local = await localApi(stack, {
    decisionNotes: new DecisionNotes({
      log: () => {},
      random: (byteCount) => crypto.getRandomValues(new Uint8Array(byteCount)),
      policy_sha256: sha256,
      later: (work) => void running.push(work()),
      pause: () => batch.promise,
      commit: async (tenantId: string, told: readonly AuditEvent[]) => {
        await asTenant(app, tenantId, [outboxInsert(told, 2)]);
      },
    }),
  });
  const read = (key: string) => local.fetch("/api/whoami", { headers: { authorization: `Bearer ${key}` } });
  for (const key of [tenant.keys.viewer, tenant.keys.viewer, tenant.keys.auditor]) {
    expect((await read(key)).status).toBe(200);
  }
  batch.resolve();
  await Promise.all(running);
  await stack.runScheduled();
  const counted = async () =>
    (await decisions("whoami.read")).map(({ principal, attrs }) => [
      principal,
      (attrs as Record<string, unknown>)["count"],
    ]);
  await expect.poll(counted, { timeout: 20_000 }).toEqual(
    expect.arrayContaining([
      [tenant.principals.viewer, 2],
      [tenant.principals.auditor, 1],
    ]),
  );
  const env = { MAESTRO_API_URL: stack.apiUrl, MAESTRO_API_KEY: tenant.keys.auditor };
  for (const { event_id: id, attrs } of await decisions("whoami.read")) {
    const host = testHost({ home: testFolder(), env });
    const { code, json, err } = await maestro(host, "policy", "replay", String(id), "--json");
    expect([code, err]).toEqual([0, ""]);
    expect(json()).toMatchObject({ id, agrees: true, logged: { attributes: attrs }, replayed: { allow: true } });
  }
  const asked = local.decided.filter((input) => (input as { action: string }).action === "whoami.read");
  expect(asked).toHaveLength(3);
});
