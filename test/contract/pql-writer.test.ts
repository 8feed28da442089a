// The log's rows in Postgres: written by the audit worker's role, in order, once each.

import { sql } from "drizzle-orm";
import { expect, test } from "vitest";
import type { EventColumns } from "../../shared/contract/events.ts";
import { eventRowsMax, writeEventRows } from "../../shared/pql/store.ts";
import { asTenant, inBatch } from "../../shared/tenancy/database.ts";
import { useStack } from "../support/stack.ts";
import { connect, rowOf, tenantNumber } from "./pql-support.ts";

const stack = useStack();
const audit = connect(stack, "audit");
const app = connect(stack, "app");

const stored = async (tenant: string): Promise<Record<string, unknown>[]> => {
  const [rows] = await asTenant(app, tenant, [
    sql`select tenant_id::text, seq::text, to_char(logged_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as logged_at,
      to_char(occurred_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as occurred_at, event_id, type, source,
      principal, execution_id, package, version, channel, outcome, rule, action, units::text, duration_ms::text, attrs
      from audit_events e order by e.seq`,
  ]);
  return rows!.map((row) => ({
    ...row,
    seq: Number(row["seq"]),
    units: row["units"] === null ? null : Number(row["units"]),
    duration_ms: row["duration_ms"] === null ? null : Number(row["duration_ms"]),
  }));
};

test("every column of a row comes back as it was given, whatever text is in it", async () => {
  const tenant = tenantNumber(0xa001);
  const rows: EventColumns[] = [
    rowOf(tenant, 0, { type: "mc.policy.decision" }),
    rowOf(tenant, 1, {
      type: "mc.execution.finished",
      logged_at: "2026-04-13T10:00:00.123Z",
      occurred_at: "2026-04-13T09:59:59.999Z",
      source: "api",
      principal: "pri_01k9x6f6c8a0b1c2d3e4f5g6h7",
      execution_id: "exe_01k9x6f6c8a0b1c2d3e4f5g6h7",
      package: "tools/sbom-inventory",
      version: "1.2.3-rc.1",
      channel: "canary",
      outcome: "failed",
      rule: "NULL",
      action: `{"quotes"},commas, \\back\\slashes\\ and 'more'`,
      units: 0,
      duration_ms: Number.MAX_SAFE_INTEGER,
      attributes: { text: 'line\nbreak \t "quoted" \\ {} , NULL ünïcödé 🎼', nested: { list: [1, null, true] } },
    }),
    rowOf(tenant, 2, { type: "mc.policy.decision", rule: "", package: " padded ", attributes: { units: -1 } }),
  ];
  expect(await writeEventRows(audit, rows)).toBe(3);
  expect(await stored(tenant)).toEqual(rows);
});

test("rows that come twice, late or out of order stand once, in seq order, as they were first written", async () => {
  const tenant = tenantNumber(0xa002);
  const rows = Array.from({ length: 50 }, (_, seq) =>
    rowOf(tenant, seq, { type: "mc.policy.decision", outcome: "deny" }),
  );
  expect(await writeEventRows(audit, rows.slice(0, 20).reverse())).toBe(20);
  expect(await writeEventRows(audit, rows.slice(10, 50))).toBe(30);
  expect(await writeEventRows(audit, rows)).toBe(0);
  expect(await writeEventRows(audit, [{ ...rows[3]!, outcome: "allow" }])).toBe(0);
  expect(await stored(tenant)).toEqual(rows);
});

test("a whole segment of 10,000 rows is one call; one row more is refused before anything is written", async () => {
  const tenant = tenantNumber(0xa003);
  const attributes = { padding: "x".repeat(400) };
  const rows = Array.from({ length: eventRowsMax + 1 }, (_, seq) =>
    rowOf(tenant, seq, { type: "mc.policy.decision", attributes }),
  );
  await expect(writeEventRows(audit, rows)).rejects.toThrow(RangeError);
  expect(await stored(tenant)).toEqual([]);
  expect(await writeEventRows(audit, rows.slice(0, eventRowsMax))).toBe(eventRowsMax);
  expect((await stored(tenant)).map(({ seq }) => seq)).toEqual(rows.slice(0, eventRowsMax).map(({ seq }) => seq));
});

test("a row that cannot be stored fails the call, and the same rows without it can be written after", async () => {
  const tenant = tenantNumber(0xa004);
  const rows = [0, 1, 2].map((seq) => rowOf(tenant, seq, { type: "mc.policy.decision" }));
  await expect(writeEventRows(audit, [...rows, { ...rows[2]!, seq: -1 }])).rejects.toMatchObject({
    code: "23514",
  });
  expect(await stored(tenant)).toEqual([]);
  expect(await writeEventRows(audit, rows)).toBe(3);
});

test("writing nothing is nothing", async () => {
  expect(await writeEventRows(audit, [])).toBe(0);
});

/** SQLSTATE 42501, insufficient privilege. */
const isForbidden = (error: unknown): boolean => (error as { code?: unknown }).code === "42501";

test("no role but the audit worker's can write the log's rows, and none can change or remove them", async () => {
  const row = rowOf(tenantNumber(0xa005), 0, { type: "mc.policy.decision" });
  await expect(writeEventRows(app, [row])).rejects.toSatisfy(isForbidden);
  expect(await writeEventRows(audit, [row])).toBe(1);
  for (const database of [app, audit]) {
    await expect(inBatch(database, [sql`update audit_events set outcome = 'allow'`])).rejects.toSatisfy(isForbidden);
    await expect(inBatch(database, [sql`delete from audit_events`])).rejects.toSatisfy(isForbidden);
  }
});
