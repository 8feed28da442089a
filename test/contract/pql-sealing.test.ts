// Hours and days that are sealed: their rows of counts are what a plain loop counts, once each, whoever asks for them how often.

import { sql } from "drizzle-orm";
import pg from "pg";
import { expect, test } from "vitest";
import type { EventColumns, EventType } from "../../shared/contract/events.ts";
import { sealHours, type Sealed } from "../../shared/pql/hours-store.ts";
import { dayMs, hourMs } from "../../shared/pql/scan-parts.ts";
import { writeEventRows } from "../../shared/pql/store.ts";
import { asTenant, inBatch } from "../../shared/tenancy/database.ts";
import { seeded } from "../simulation/audit-events.ts";
import { useStack } from "../support/stack.ts";
import { connect, rowOf, tenantNumber } from "./pql-support.ts";

const stack = useStack();
const app = connect(stack, "app");
const audit = connect(stack, "audit");
const start = Date.UTC(2026, 3, 12, 22);

interface Counts {
  readonly at: number;
  readonly is_sum: boolean;
  readonly type: string;
  readonly outcome: string | null;
  readonly package: string | null;
  readonly total: number;
  readonly slots: readonly number[];
}

/** In the order of their names, so that two lists can be compared. */
const inOrder = (counts: readonly Counts[]): Counts[] =>
  counts.toSorted((left, right) => (JSON.stringify(left) < JSON.stringify(right) ? -1 : 1));

/** What the rows of `step` before `sealedTo` should be, `parts` slots in each. */
function expected(rows: readonly EventColumns[], sealedTo: number, step: number, parts: number): Counts[] {
  const found = new Map<string, Counts & { total: number; slots: number[] }>();
  for (const row of rows) {
    const time = Date.parse(row.logged_at);
    const at = time - (time % step);
    if (at + step > sealedTo) continue;
    for (const is_sum of [false, true]) {
      const group = { at, is_sum, type: row.type, outcome: row.outcome, package: is_sum ? null : row.package };
      const key = JSON.stringify(group);
      const counts = found.get(key) ?? { ...group, total: 0, slots: Array.from({ length: parts }, () => 0) };
      counts.total += 1;
      counts.slots[Math.floor(((time - at) * parts) / step)]! += 1;
      found.set(key, counts);
    }
  }
  return inOrder([...found.values()]);
}

async function stored(tenant: string, table: "hour" | "day"): Promise<Counts[]> {
  const column = sql.identifier(table);
  const [rows] = await asTenant(app, tenant, [
    sql`select (extract(epoch from ${column}) * 1000)::float8 as at, is_sum, type, outcome, package, total, to_json(slots)::text as slots
      from ${sql.identifier(`audit_${table}s`)}`,
  ]);
  return inOrder(rows!.map((row) => ({ ...row, slots: JSON.parse(String(row["slots"])) }) as unknown as Counts));
}

/** `logged_at` rises with `seq` over `spanMs`, with instants on every edge of hours and slots. */
function rowsOf(tenant: string, seed: number, count: number, spanMs: number): EventColumns[] {
  const next = seeded(seed);
  const pick = <T>(values: readonly T[]): T => values[Math.floor(next() * values.length)]!;
  const times = Array.from({ length: count }, () => {
    const at = Math.floor(next() * spanMs);
    return start + (next() < 0.3 ? at - (at % 300_000) + pick([-1, 0, 1]) : at);
  });
  return times
    .sort((left, right) => left - right)
    .map((time, seq) =>
      rowOf(tenant, seq, {
        type: pick<EventType>(["mc.policy.decision", "mc.policy.decision", "mc.install.changed"]),
        outcome: pick(["deny", "allow", null]),
        package: pick(["tools/a", "tools/b", "", null]),
        logged_at: new Date(time).toISOString(),
      }),
    );
}

/** As the log does it: on from each answer, until `to`. */
async function sealTo(tenant: string, to: number, from: number | null = null, eventsMax?: number): Promise<Sealed[]> {
  const answers: Sealed[] = [];
  for (let known = from; known === null || known < to; known = answers.at(-1)!.sealed_to) {
    answers.push(await sealHours(audit, tenant, { from: known, to }, eventsMax));
    if (answers.length > 500) throw new Error("sealing does not come to its end");
  }
  return answers;
}

/** What all answers said, an hour or a day once. */
function told(answers: readonly Sealed[]): { hours: Map<string, number[]>; days: Map<string, number> } {
  const hours = new Map<string, number[]>();
  const days = new Map<string, number>();
  for (const answer of answers) {
    for (const { hour, type, rows, groups } of answer.hours) hours.set(`${hour} ${type}`, [rows, groups]);
    for (const { day, type, groups } of answer.days) days.set(`${day} ${type}`, groups);
  }
  return { hours, days };
}

/** Everything sealed to `to` is there, exactly, and was told of. */
async function expectSealed(
  tenant: string,
  rows: readonly EventColumns[],
  to: number,
  answers?: readonly Sealed[],
): Promise<void> {
  const [hours, days] = [await stored(tenant, "hour"), await stored(tenant, "day")];
  expect(hours).toEqual(expected(rows, to, hourMs, 12));
  expect(days).toEqual(expected(rows, to - (to % dayMs), dayMs, 24));
  if (answers === undefined) return;
  const counts = told(answers);
  const [hourKeys, dayKeys] = [hours, days].map((list) => new Set(list.map(({ at, type }) => `${at} ${type}`)));
  expect([...counts.hours.keys()].sort()).toEqual([...hourKeys!].sort());
  expect([...counts.days.keys()].sort()).toEqual([...dayKeys!].sort());
  const of = (list: readonly Counts[], key: string): Counts[] => list.filter(({ at, type }) => `${at} ${type}` === key);
  for (const [key, [eventCount, groups]] of counts.hours) {
    const sums = of(hours, key).filter(({ is_sum }) => is_sum);
    expect([eventCount, groups]).toEqual([sums.reduce((sum, { total }) => sum + total, 0), of(hours, key).length]);
  }
  for (const [key, groups] of counts.days) expect(groups).toBe(of(days, key).length);
}

test("sealed hours and whole days are counted exactly, the missing outcome and package as groups of their own", async () => {
  const tenant = tenantNumber(0x5e01);
  const rows = rowsOf(tenant, 1, 1_500, 60 * hourMs);
  await writeEventRows(audit, rows);
  const answers: Sealed[] = [];
  // In steps, so that a day is completed out of hours of several calls.
  for (const hours of [1, 3, 27, 28, 61]) {
    const to = start + hours * hourMs;
    answers.push(...(await sealTo(tenant, to, answers.at(-1)?.sealed_to ?? null)));
    expect(answers.at(-1)!.sealed_to).toBe(to);
    await expectSealed(tenant, rows, to, answers);
  }
  expect((await stored(tenant, "day")).length).toBeGreaterThan(20);
});

test("what was not written yet at the last call is counted by the next one, and the open hour is left open", async () => {
  const tenant = tenantNumber(0x5e02);
  const rows = rowsOf(tenant, 2, 900, 6 * hourMs);
  const split = rows.findIndex(({ logged_at: at }) => Date.parse(at) >= start + 3.5 * hourMs);
  await writeEventRows(audit, rows.slice(0, split));
  const first = await sealTo(tenant, start + 3 * hourMs);
  expect(first.map(({ sealed_to }) => sealed_to)).toEqual([start + 3 * hourMs]);
  await expectSealed(tenant, rows, start + 3 * hourMs, first);
  await writeEventRows(audit, rows.slice(split));
  const second = await sealTo(tenant, start + 5 * hourMs, start + 3 * hourMs);
  await expectSealed(tenant, rows, start + 5 * hourMs, [...first, ...second]);
});

test("an old history is taken in whole hours, as many as the bound holds; an hour beyond the bound as one", async () => {
  const tenant = tenantNumber(0x5e03);
  const rows = rowsOf(tenant, 3, 2_000, 40 * hourMs);
  await writeEventRows(audit, rows);
  const to = start + 41 * hourMs;
  const answers = await sealTo(tenant, to, null, 170);
  expect(answers.length).toBeGreaterThan(10);
  for (const answer of answers) {
    const eventCount = answer.hours.reduce((sum, hour) => sum + hour.rows, 0);
    expect(eventCount <= 170 || new Set(answer.hours.map(({ hour }) => hour)).size === 1).toBe(true);
    expect(answer.sealed_to % hourMs).toBe(0);
  }
  await expectSealed(tenant, rows, to, answers);

  const small = tenantNumber(0x5e04);
  const others = rows.map((row) => ({ ...row, tenant_id: small }));
  await writeEventRows(audit, others);
  await expectSealed(small, others, to, await sealTo(small, to, null, 10));
});

test("hours without events cost nothing, also at the start: a tenant without any event is sealed as nothing", async () => {
  const [empty, sparse] = [tenantNumber(0x5e05), tenantNumber(0x5e06)];
  expect(await sealTo(empty, start)).toEqual([{ sealed_to: start, hours: [], days: [] }]);
  const at = (ms: number, seq: number): EventColumns =>
    rowOf(sparse, seq, { type: "mc.policy.decision", logged_at: new Date(start + ms).toISOString() });
  const rows = [at(0, 0), at(100 * dayMs, 1), at(200 * dayMs + hourMs, 2)];
  await writeEventRows(audit, rows);
  const answers = await sealTo(sparse, start + 300 * dayMs);
  expect(answers).toHaveLength(1);
  await expectSealed(sparse, rows, start + 300 * dayMs, answers);
  // An event later than that is sealed by a call whose time has come past it, and by none before.
  const late = at(300 * dayMs, 3);
  await writeEventRows(audit, [late]);
  expect(await sealTo(empty, start + hourMs, start)).toEqual([{ sealed_to: start + hourMs, hours: [], days: [] }]);
  const more = await sealTo(sparse, start + 300 * dayMs + hourMs, start + 300 * dayMs);
  await expectSealed(sparse, [...rows, late], start + 300 * dayMs + hourMs, [...answers, ...more]);
});

test("two at once, an answer that was lost and calls in any order count nothing twice and leave nothing untold", async () => {
  const tenant = tenantNumber(0x5e07);
  const rows = rowsOf(tenant, 7, 1_200, 50 * hourMs);
  await writeEventRows(audit, rows);
  const to = start + 51 * hourMs;
  const next = seeded(8);
  // Each caller knows what it was answered; sometimes it is not answered.
  const callers = Array.from({ length: 3 }, () => ({ known: null as number | null, answers: [] as Sealed[] }));
  let calls = 0;
  while (callers.some(({ known }) => known === null || known < to)) {
    calls += 1;
    await Promise.all(
      callers.map(async (caller) => {
        const until = Math.min(to, start + Math.ceil(next() * 51) * hourMs);
        const answer = await sealHours(audit, tenant, { from: caller.known, to: next() < 0.3 ? to : until }, 100);
        if (next() < 0.4) return;
        caller.known = answer.sealed_to;
        caller.answers.push(answer);
      }),
    );
    if (calls > 500) throw new Error("sealing does not come to its end");
  }
  for (const { answers } of callers) await expectSealed(tenant, rows, to, answers);
  // And with everything told, nothing more is.
  expect(await sealHours(audit, tenant, { from: to, to })).toEqual({ sealed_to: to, hours: [], days: [] });
  expect(await sealHours(audit, tenant, { from: to, to: start })).toEqual({ sealed_to: to, hours: [], days: [] });
});

test("however many answers were lost, each has what one call may seal", async () => {
  const tenant = tenantNumber(0x5e08);
  const rows = rowsOf(tenant, 11, 1_000, 40 * hourMs);
  await writeEventRows(audit, rows);
  const to = start + 41 * hourMs;
  const answers: Sealed[] = [];
  for (let calls = 1; (answers.at(-1)?.sealed_to ?? 0) < to; calls += 1) {
    const answer = await sealHours(audit, tenant, { from: answers.at(-1)?.sealed_to ?? null, to }, 100);
    if (calls % 3 === 0) answers.push(answer);
    expect(answer.hours.reduce((sum, hour) => sum + hour.rows, 0)).toBeLessThanOrEqual(100);
  }
  await expectSealed(tenant, rows, to, answers);
});

test("sealing happens as a whole or not at all", async () => {
  const tenant = tenantNumber(0x5e09);
  const rows = rowsOf(tenant, 9, 800, 30 * hourMs);
  await writeEventRows(audit, rows);
  const owner = new pg.Client({ connectionString: stack.databaseUrls.owner });
  await owner.connect();
  const to = start + 31 * hourMs;
  try {
    // Days come after hours: with a day that stands in the way, the hours must not stay either.
    const { day, ...group } = { day: new Date(start + 2 * hourMs), type: rows.find((row) => Date.parse(row.logged_at) >= start + 2 * hourMs)!.type }; // prettier-ignore
    await owner.query(
      `insert into audit_days (tenant_id, is_sum, type, day, outcome, package, total, slots)
       select $1, true, $2, $3, outcome, null, 1, array_fill(0, array[24])
       from (values ('deny'), ('allow'), (null)) as outcomes (outcome)`,
      [tenant, group.type, day],
    );
    await expect(sealHours(audit, tenant, { from: null, to })).rejects.toMatchObject({ code: "23505" });
    expect(await stored(tenant, "hour")).toEqual([]);
    await owner.query("delete from audit_days where tenant_id = $1", [tenant]);
  } finally {
    await owner.end();
  }
  await expectSealed(tenant, rows, to, await sealTo(tenant, to));
});

test("no role but the audit worker's can write rows of counts, none changes or removes them, a tenant sees its own", async () => {
  const [tenant, other] = [tenantNumber(0x5e0a), tenantNumber(0x5e0b)];
  await writeEventRows(audit, rowsOf(tenant, 10, 50, 26 * hourMs));
  await sealTo(tenant, start + 27 * hourMs);
  const forbidden = { code: "42501" };
  await expect(sealHours(app, tenant, { from: null, to: start })).rejects.toMatchObject(forbidden);
  for (const table of ["audit_hours", "audit_days"]) {
    const name = sql.identifier(table);
    for (const database of [app, audit]) {
      await expect(inBatch(database, [sql`update ${name} set total = 1`])).rejects.toMatchObject(forbidden);
      await expect(inBatch(database, [sql`delete from ${name}`])).rejects.toMatchObject(forbidden);
    }
  }
  await expect(inBatch(audit, [sql`delete from audit_sealed`])).rejects.toMatchObject(forbidden);
  await expect(asTenant(app, tenant, [sql`update audit_sealed set sealed_to = now()`])).rejects.toMatchObject(
    forbidden,
  );
  expect((await stored(tenant, "hour")).length).toBeGreaterThan(10);
  expect([await stored(other, "hour"), await stored(other, "day")]).toEqual([[], []]);
});
