// Postgres goes away and comes back: callers get 503 with Retry-After, nothing is half done, and all of it recovers by
// itself, the log included.

import { beforeAll, expect, test } from "vitest";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import { contractOf, type Contract } from "../support/openapi.ts";
import { freshKey, installPackage, jsonCall } from "../support/publisher.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
const name = "outage/probe";
let api: Contract;
let tenant: SeededTenant;

beforeAll(async () => {
  api = await contractOf(stack.apiUrl);
  tenant = await stack.seedTenant("outage");
  await installPackage(api, tenant, name, 10);
  await api.fetch(
    "/api/privacy/budget",
    jsonCall(tenant.keys.admin, "PUT", { limit_units: 100, leak_units_per_hour: 0 }),
  );
});

const budget = async () => (await api.fetch("/api/privacy/budget", jsonCall(tenant.keys.viewer, "GET"))).json;
const asked = (query: string) => api.fetch("/api/pql", jsonCall(tenant.keys.auditor, "POST", { query }));

test("while Postgres is down every call answers 503 and says when to come back; afterwards the same key does it once", async () => {
  const key = { "idempotency-key": freshKey() };
  const start = () => api.fetch("/api/executions", jsonCall(tenant.keys.operator, "POST", { package: name }, key));
  await stack.postgres.stop();
  try {
    const list = () => api.fetch("/api/executions", jsonCall(tenant.keys.viewer, "GET"));
    for (const call of [start, list]) {
      const answer = await call();
      expect([answer.status, answer.json.code]).toEqual([503, "database_unavailable"]);
      expect(Number(answer.headers.get("retry-after"))).toBeGreaterThan(0);
    }
    const health = await fetch(`${stack.apiUrl}/healthz`);
    expect(health.status).toBe(503);
  } finally {
    await stack.postgres.start();
  }
  await expect.poll(async () => (await start()).status, { timeout: 20_000 }).toBe(201);
  const run = (await start()).json;
  expect((await start()).json).toEqual(run);
  expect(await budget()).toMatchObject({ held_units: 10, spent_units: 0 });
  await api.fetch(`/api/executions/${run.id}/finish`, jsonCall(tenant.keys.operator, "POST", { outcome: "succeeded" }));
  expect(await budget()).toMatchObject({ held_units: 0, spent_units: 10 });
  expect((await fetch(`${stack.apiUrl}/healthz`)).status).toBe(200);
});

test("events committed before the outage, and those of objects during it, are in the log after it, each once", async () => {
  const { id } = (await api.fetch("/api/executions", jsonCall(tenant.keys.operator, "POST", { package: name }))).json;
  await api.fetch(`/api/executions/${id}/finish`, jsonCall(tenant.keys.operator, "POST", { outcome: "succeeded" }));
  await stack.postgres.stop();
  await new Promise((resolve) => setTimeout(resolve, 2_500));
  await stack.postgres.start();
  await expect
    .poll(
      async () => {
        const answer = await asked(`FIND events WHERE execution_id = "${id}" TOP 20 BY type SINCE 1h`);
        return answer.status === 200 ? answer.json.groups : answer.status;
      },
      { timeout: 40_000, interval: 500 },
    )
    .toEqual(
      [
        "mc.execution.finished",
        "mc.execution.started",
        "mc.policy.decision",
        "mc.privacy.reserved",
        "mc.privacy.settled",
        "mc.receipt.signed",
      ].map((type) => ({ name: type, total: 1 })),
    );
});
