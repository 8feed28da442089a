// The net under the logs' alarms: the note of who is active and the cron that sweeps by it, on the real Postgres, with the
// audit worker's own role.

import { neon, neonConfig } from "@neondatabase/serverless";
import { drizzle } from "drizzle-orm/neon-http";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Log } from "../../shared/contract/ports.ts";
import { postgresActivity } from "../../workers/audit/activity.ts";
import { jsonCall } from "../support/publisher.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
let owner: pg.Client;
beforeAll(async () => {
  neonConfig.fetchEndpoint = stack.neonEndpoint;
  owner = new pg.Client({ connectionString: stack.databaseUrls.owner });
  await owner.connect();
});
afterAll(() => owner.end());

const databaseAs = (url: string) => drizzle({ client: neon(url) });
const noted = async (ids: readonly string[]): Promise<string[]> => {
  const { rows } = await owner.query<{ tenant_id: string }>(
    "select tenant_id from audit_activity where tenant_id = any($1) order by tenant_id",
    [ids],
  );
  return rows.map(({ tenant_id }) => tenant_id);
};

test("notes are written, read and struck out by the audit worker's role; those that are young, or still have work, stay", async () => {
  const [idle, busy, young] = [1, 2, 3].map((digit) => `7f0c2d9e-5a53-4d2f-9a0b-0000000000${digit}0`) as [
    string,
    string,
    string,
  ];
  const lines: string[] = [];
  // Long ago, so that this sweep meets none of the running stack's own notes.
  let now = Date.UTC(2020, 0, 1);
  const log: Log = (level, message) => void lines.push(`${level}: ${message}`);
  const activity = postgresActivity(databaseAs(stack.databaseUrls.audit), () => now, log);
  await activity.note([idle, busy]);
  now += 60_001;
  await activity.note([young]);
  expect(await noted([idle, busy, young])).toEqual([idle, busy, young]);
  const swept: string[] = [];
  await activity.sweep(async (tenantId) => {
    swept.push(tenantId);
    return tenantId === idle;
  });
  expect(swept.toSorted()).toEqual([idle, busy]);
  expect(await noted([idle, busy, young])).toEqual([busy, young]);
  expect(lines).toEqual([]);
  await owner.query("delete from audit_activity where tenant_id = any($1)", [[busy, young]]);
});

test("a statement that Postgres refuses is an alarm, not a warning to get used to", async () => {
  const lines: unknown[] = [];
  const log: Log = (level, message, fields) => void lines.push({ level, message, alarm: fields?.["alarm"] });
  const activity = postgresActivity(databaseAs(stack.databaseUrls.app), () => Date.now(), log);
  await activity.sweep(async () => true);
  expect(lines).toEqual([{ level: "error", message: "active logs could not be swept", alarm: true }]);
});

test("the cron strikes a tenant out once its log has nothing left to do", async () => {
  const tenant = await stack.seedTenant("audit-sweep");
  const made = await fetch(`${stack.apiUrl}/api/keys`, jsonCall(tenant.keys.admin, "POST", { role: "viewer" }));
  expect(made.status).toBe(201);
  const ids = [tenant.tenant_id];
  await expect.poll(() => noted(ids), { timeout: 20_000 }).toEqual(ids);
  await expect
    .poll(
      async () => {
        await owner.query(
          "update audit_activity set active_at = now() - interval '2 minutes' where tenant_id = any($1)",
          [ids],
        );
        await stack.runScheduled();
        return await noted(ids);
      },
      { timeout: 20_000, interval: 200 },
    )
    .toEqual([]);
});
