// A run commits only on the entitlements that it was decided on: one that is taken away between the check and the insert
// is seen, and the run is decided anew.

import { sql } from "drizzle-orm";
import { expect, test } from "vitest";
import { insertExecution } from "../../shared/executions/store.ts";
import { startedEvent, startedExecution } from "../../shared/executions/execution.ts";
import { newEvent } from "../../shared/outbox/outbox.ts";
import { asTenant } from "../../shared/tenancy/database.ts";
import { databaseAs } from "../support/api.ts";
import { contractOf } from "../support/openapi.ts";
import { freshKey, installPackage, jsonCall, must } from "../support/publisher.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();

test("an insert on entitlements that have changed since makes no row, no event and no answer", async () => {
  const tenant = await stack.seedTenant("entitled-at-commit");
  const api = await contractOf(stack.apiUrl);
  await installPackage(api, tenant, "commit/probe");
  const database = databaseAs(stack, "app");
  const [install] = must(200, await api.fetch("/api/market/installs", jsonCall(tenant.keys.viewer, "GET"))).json
    .installs;
  const set = must(200, await api.fetch("/api/market/entitlements", jsonCall(tenant.keys.viewer, "GET"))).json;
  const now = Date.now();
  const insert = (id: string, version: number, key: string) => {
    const execution = startedExecution({ id, install, wallMs: 1000, inputSha256: null, rolloutId: null, now });
    const random = (count: number) => crypto.getRandomValues(new Uint8Array(count));
    const context = {
      tenant_id: tenant.tenant_id,
      principal: tenant.principals.operator,
      source: "api",
      now,
      random,
    } as const;
    return insertExecution(database, tenant.tenant_id, 2, {
      execution,
      install_id: install.id,
      principal_id: tenant.principals.operator,
      entitlement_version: version,
      runs_per_day_max: null,
      events: [newEvent(context, "mc.execution.started", startedEvent(execution, install.id, version, "e".repeat(64)))],
      claim: {
        tenant_id: tenant.tenant_id,
        principal_id: tenant.principals.operator,
        route: "r",
        key,
        body_sha256: "d".repeat(64),
      },
      now,
      admit_until_ms: now + 30_000,
    });
  };
  const row = { entitlements: [{ package: "commit/probe", channel: "stable", allowed: false }] };
  must(200, await api.fetch("/api/market/entitlements", jsonCall(tenant.keys.admin, "PUT", row)));
  const key = freshKey();
  expect(await insert(`exe_${"2".repeat(26)}`, set.version, key)).toBe(false);
  const [executions, answers] = await asTenant(database, tenant.tenant_id, [
    sql`select id from executions where tenant_id = ${tenant.tenant_id}`,
    sql`select key from idempotency_keys where tenant_id = ${tenant.tenant_id} and key = ${key}`,
  ]);
  expect([executions, answers]).toEqual([[], []]);
  expect(await insert(`exe_${"3".repeat(26)}`, set.version + 1, key)).toBe(true);
});
