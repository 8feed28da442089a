// What an answer says of itself: every event logged before `complete_to` is counted, whatever the index step has not
// written yet, whoever writes meanwhile, on every page.

import { setTimeout as delay } from "node:timers/promises";
import { resolve } from "node:path";
import { sql } from "drizzle-orm";
import pg from "pg";
import { describe, expect, test } from "vitest";
import { migrate, readMigrations } from "../../scripts/stack/migrate.ts";
import { pqlAnswer, type PqlAnswer } from "../../shared/contract/http-pql.ts";
import { askPql } from "../../shared/pql/engine.ts";
import { askLimits, writeEventRows } from "../../shared/pql/store.ts";
import { asTenant, inBatch } from "../../shared/tenancy/database.ts";
import { jsonCall } from "../support/publisher.ts";
import { useStack } from "../support/stack.ts";
import { connect, rowOf, tenantNumber } from "./pql-support.ts";

const stack = useStack();
const app = connect(stack, "app");
const audit = connect(stack, "audit");
const start = Date.UTC(2026, 3, 13);
const now = start + 3_600_000;

/** Row `seq` of the tenant, logged `ms` after the start. */
const rowAt = (tenant: string, seq: number, ms: number): ReturnType<typeof rowOf> =>
  rowOf(tenant, seq, { type: "mc.policy.decision", logged_at: new Date(start + ms).toISOString() });

const ask = (tenant: string, query = "FIND decisions SINCE 2h", cursor?: string): Promise<PqlAnswer> =>
  askPql(app, { tenant_id: tenant, now, query, cursor }, { ...askLimits, page_rows: 1_000 });
const completeTo = async (tenant: string): Promise<number | null> => {
  const { complete_to: text } = await ask(tenant);
  return text === null ? null : Date.parse(text) - start;
};
const indexOf = async (tenant: string): Promise<unknown> => {
  const [rows] = await asTenant(app, tenant, [
    sql`select indexed_seq::int as seq, (extract(epoch from indexed_to) * 1000)::bigint::text as ms from audit_index`,
  ]);
  return rows!.map((row) => [row["seq"], Number(row["ms"]) - start]);
};

describe("complete_to", () => {
  test("is null where nothing was logged, and in every kind of answer", async () => {
    const tenant = tenantNumber(0xc001);
    for (const clause of ["", "BUCKET BY 1h", "TOP 3 BY package", "BUCKET BY 1h TOP 3 BY package"]) {
      expect(await ask(tenant, `FIND decisions ${clause} SINCE 2h`)).toMatchObject({ complete_to: null });
    }
    await writeEventRows(audit, [rowAt(tenant, 0, 123)]);
    for (const clause of ["", "BUCKET BY 1h", "TOP 3 BY package", "BUCKET BY 1h TOP 3 BY package"]) {
      expect(await ask(tenant, `FIND decisions ${clause} SINCE 2h`)).toMatchObject({
        complete_to: "2026-04-13T00:00:00.123Z",
        covers: { to: "2026-04-13T01:00:00.000Z" },
      });
    }
  });

  test("leaves out the millisecond of the newest row: another row of it may follow", async () => {
    const tenant = tenantNumber(0xc002);
    await writeEventRows(audit, [rowAt(tenant, 0, 1), rowAt(tenant, 1, 5), rowAt(tenant, 2, 5)]);
    expect(await completeTo(tenant)).toBe(5);
    await writeEventRows(audit, [rowAt(tenant, 3, 5)]);
    expect(await completeTo(tenant)).toBe(5);
    await writeEventRows(audit, [rowAt(tenant, 4, 6)]);
    expect(await completeTo(tenant)).toBe(6);
    expect(await indexOf(tenant)).toEqual([[5, 6]]);
  });

  test("never goes back where rows come again, and is of the tenant alone", async () => {
    const [tenant, other] = [tenantNumber(0xc003), tenantNumber(0xc004)];
    const rows = Array.from({ length: 10 }, (_, seq) => rowAt(tenant, seq, seq));
    await writeEventRows(audit, rows);
    expect(await writeEventRows(audit, rows.slice(2, 5))).toBe(0);
    expect(await indexOf(tenant)).toEqual([[10, 9]]);
    expect(await completeTo(other)).toBeNull();
    await writeEventRows(audit, [rowAt(other, 0, 700)]);
    expect([await completeTo(tenant), await completeTo(other)]).toEqual([9, 700]);
  });

  test("moves with the rows or not at all: what cannot be stored does not count as seen", async () => {
    const tenant = tenantNumber(0xc005);
    await writeEventRows(audit, [rowAt(tenant, 0, 0)]);
    const wrong = { ...rowAt(tenant, 2, 20), attrs: "NUL \0" };
    const refused = { code: "22021" }; // character_not_in_repertoire
    await expect(writeEventRows(audit, [rowAt(tenant, 1, 10), wrong])).rejects.toMatchObject(refused);
    expect(await indexOf(tenant)).toEqual([[1, 0]]);
    // A large call goes in parts, each a transaction: the first one stands, and says so.
    const padding = "x".repeat(2 * 1024 * 1024);
    const large = { ...rowAt(tenant, 1, 10), attrs: JSON.stringify({ padding }) };
    await expect(writeEventRows(audit, [large, wrong])).rejects.toMatchObject(refused);
    expect(await indexOf(tenant)).toEqual([[2, 10]]);
  });

  test("holds while rows are written: no answer lacks a row from before it", async () => {
    const tenant = tenantNumber(0xc006);
    const rows = Array.from({ length: 600 }, (_, seq) => rowAt(tenant, seq, Math.floor(seq / 4)));
    const answers: PqlAnswer[] = [];
    const written = new AbortController();
    const asking = Array.from({ length: 3 }, async () => {
      while (!written.signal.aborted) answers.push(await ask(tenant));
    });
    try {
      for (let at = 0; at < rows.length; at += 5) await writeEventRows(audit, rows.slice(at, at + 5));
    } finally {
      written.abort();
      await Promise.all(asking);
    }
    const sizes = new Set<number>();
    for (const answer of answers) {
      if (answer.kind !== "rows") throw new Error("rows were asked for");
      sizes.add(answer.rows.length);
      const reached = answer.complete_to;
      const before = (times: readonly string[]): number =>
        reached === null ? 0 : times.filter((time) => time < reached).length;
      expect(before(answer.rows.map((row) => String(row["logged_at"])))).toBe(
        before(rows.map(({ logged_at }) => logged_at)),
      );
    }
    expect(sizes.size).toBeGreaterThan(3);
  });

  test("is that of the first page on all pages, however far the log has come since", async () => {
    const tenant = tenantNumber(0xc007);
    await writeEventRows(
      audit,
      Array.from({ length: 9 }, (_, seq) => rowAt(tenant, seq, seq)),
    );
    const page = (cursor?: string) =>
      askPql(app, { tenant_id: tenant, now, query: "FIND decisions SINCE 2h", cursor }, { ...askLimits, page_rows: 4 });
    const seen: unknown[] = [];
    let cursor: string | undefined;
    for (let pages = 0; pages < 3; pages += 1) {
      const answer = await page(cursor);
      if (answer.kind !== "rows") throw new Error("rows were asked for");
      expect(answer.complete_to).toBe("2026-04-13T00:00:00.008Z");
      seen.push(...answer.rows.map(({ seq }) => seq));
      cursor = answer.next_cursor ?? undefined;
      // In the range of the first page, and logged before it was asked: the index step was behind.
      await writeEventRows(audit, [rowAt(tenant, 9 + pages, 100 + pages)]);
    }
    expect(seen).toEqual([8, 7, 6, 5, 4, 3, 2, 1, 0]);
    expect(cursor).toBeUndefined();
    expect(await completeTo(tenant)).toBe(102);
  });

  test("cannot be raised by a cursor that was changed", async () => {
    const tenant = tenantNumber(0xc008);
    await writeEventRows(audit, [rowAt(tenant, 0, 0), rowAt(tenant, 1, 1)]);
    const limits = { ...askLimits, page_rows: 1 };
    const question = { tenant_id: tenant, now, query: "FIND decisions SINCE 2h" };
    const first = await askPql(app, question, limits);
    if (first.kind !== "rows" || first.next_cursor === null) throw new Error("there is a second page");
    const parts = JSON.parse(atob(first.next_cursor)) as unknown[];
    const cursor = btoa(JSON.stringify(parts.with(2, now)));
    expect(await askPql(app, { ...question, cursor }, limits)).toMatchObject({
      complete_to: "2026-04-13T00:00:00.001Z",
      rows: [{ seq: 0 }],
    });
  });
});

test(
  "while Postgres takes no rows, the API's answers do not claim those that they lack",
  { timeout: 60_000 },
  async () => {
    const tenant = await stack.seedTenant("pql-complete");
    const call = (path: string, init: RequestInit): Promise<Response> => fetch(`${stack.apiUrl}${path}`, init);
    const decisions = async () => {
      const query = { query: 'FIND decisions WHERE rule = "role_too_low" SINCE 1h' };
      const response = await call("/api/pql", jsonCall(tenant.keys.auditor, "POST", query));
      const answer = pqlAnswer.parse(await response.json());
      if (answer.kind !== "rows") throw new Error("rows were asked for");
      return answer;
    };
    const deny = async (): Promise<void> => {
      const body = { package: "tools/denied" };
      const init = jsonCall(tenant.keys.viewer, "POST", body);
      expect((await call("/api/executions", init)).status).toBe(403);
    };
    const sealed = async (): Promise<number> => {
      const response = await call("/api/audit/checkpoint", jsonCall(tenant.keys.auditor, "GET"));
      return response.ok ? Number((await response.text()).split("\n")[1]) : 0;
    };
    const until = async (holds: () => Promise<boolean>): Promise<void> => {
      while (!(await holds())) await delay(100);
    };
    const before = (await decisions()).rows.length;
    await deny();
    await until(async () => (await decisions()).rows.length === before + 1);

    const owner = new pg.Client({ connectionString: stack.databaseUrls.owner });
    await owner.connect();
    let stuck: Awaited<ReturnType<typeof decisions>>;
    try {
      // Readers go on, writers wait.
      await owner.query("begin");
      await owner.query("lock table audit_events in share mode");
      const size = await sealed();
      for (let count = 0; count < 3; count += 1) await deny();
      await until(async () => (await sealed()) >= size + 3);
      stuck = await decisions();
      await owner.query("commit");
    } finally {
      await owner.end();
    }
    await until(async () => (await decisions()).rows.length === before + 4);
    const after = await decisions();
    const missing = after.rows.filter((row) => !stuck.rows.some(({ seq }) => seq === row["seq"]));
    expect(missing.length).toBe(3);
    for (const { logged_at: time } of missing) {
      // In the range that was asked, and not counted: the answer said that it might be so.
      expect(String(time) < stuck.covers.to).toBe(true);
      expect(stuck.complete_to !== null && stuck.complete_to <= String(time)).toBe(true);
    }
    expect(after.complete_to! >= String(missing[0]!["logged_at"])).toBe(true);
  },
);

test("the migration takes over what was written before it, also where the owner is under row security", async () => {
  const name = "pql_complete_probe";
  const owner = new pg.Client({ connectionString: stack.databaseUrls.owner });
  await owner.connect();
  const url = new URL(stack.databaseUrls.owner);
  url.pathname = `/${name}`;
  const drop = async (): Promise<void> => {
    await owner.query(`drop database if exists ${name} with (force)`);
    await owner.query(`drop role if exists ${name}`);
  };
  try {
    await drop();
    await owner.query(`create database ${name}`);
    await owner.query(`create role ${name} nosuperuser nobypassrls`);
    const probe = new pg.Client({ connectionString: url.href });
    await probe.connect();
    try {
      const migrations = readMigrations(resolve(import.meta.dirname, "..", "..", "migrations"));
      const at = migrations.findIndex((migration) => migration.name === "0007_audit_index.sql");
      await migrate(probe, migrations.slice(0, at));
      await probe.query(
        `insert into audit_events (tenant_id, seq, logged_at, occurred_at, event_id, type, source, attrs)
         select $1::uuid, n, timestamptz '2026-04-13Z' + n * interval '1 ms', now(), 'evt', 'mc.key.created', 'api', '{}'
         from generate_series(0, 9) as n`,
        [tenantNumber(0xc009)],
      );
      await probe.query(`grant create on schema public to ${name}`);
      await probe.query(`alter table audit_events owner to ${name}`);
      await probe.query(`begin; set local role ${name};`);
      await probe.query(migrations[at]!.sql);
      await probe.query("commit");
      const { rows } = await probe.query(
        "select tenant_id, indexed_seq::int as seq, to_char(indexed_to at time zone 'UTC', 'SS.MS') as seconds from audit_index",
      );
      expect(rows).toEqual([{ tenant_id: tenantNumber(0xc009), seq: 10, seconds: "00.009" }]);
      const { rows: forced } = await probe.query(
        "select relname from pg_class where relname in ('audit_events', 'audit_index') and relforcerowsecurity order by 1",
      );
      expect(forced).toEqual([{ relname: "audit_events" }, { relname: "audit_index" }]);
    } finally {
      await probe.end();
    }
  } finally {
    await drop();
    await owner.end();
  }
});

test("the audit worker's role alone writes how far the rows go, and removes nothing of it", async () => {
  const tenant = tenantNumber(0xc00a);
  await writeEventRows(audit, [rowAt(tenant, 0, 0)]);
  const forbidden = { code: "42501" };
  await expect(inBatch(audit, [sql`delete from audit_index`])).rejects.toMatchObject(forbidden);
  for (const statement of [
    sql`update audit_index set indexed_to = now()`,
    sql`insert into audit_index values (${tenant}, 5, now())`,
    sql`delete from audit_index`,
  ]) {
    await expect(asTenant(app, tenant, [statement])).rejects.toMatchObject(forbidden);
  }
});
