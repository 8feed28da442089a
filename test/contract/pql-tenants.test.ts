// A question sees its own tenant's rows, whatever it asks and even where the planner is wrong; and its pages hold still.

import { sql, type SQL } from "drizzle-orm";
import { beforeAll, describe, expect, test } from "vitest";
import { askPql } from "../../shared/pql/engine.ts";
import { parsePql } from "../../shared/pql/parse.ts";
import { sealHours } from "../../shared/pql/hours-store.ts";
import { planQuery, type Plan } from "../../shared/pql/plan.ts";
import { askLimits, writeEventRows } from "../../shared/pql/store.ts";
import { templates, type Bounds, type Template } from "../../shared/pql/templates.ts";
import { asTenant, inBatch } from "../../shared/tenancy/database.ts";
import { useStack } from "../support/stack.ts";
import { connect, rowOf, tenantNumber } from "./pql-support.ts";

const stack = useStack();
const app = connect(stack, "app");
const audit = connect(stack, "audit");
const [ours, theirs] = [tenantNumber(0x5ec1), tenantNumber(0x5ec2)];
const now = Date.UTC(2026, 3, 13, 1);

beforeAll(async () => {
  const rows = (tenant: string, count: number, packageName: string): ReturnType<typeof rowOf>[] =>
    Array.from({ length: count }, (_, seq) =>
      rowOf(tenant, seq, { type: "mc.policy.decision", package: packageName, outcome: "deny" }),
    );
  await writeEventRows(audit, rows(ours, 30, "ours"));
  await writeEventRows(audit, rows(theirs, 70, "theirs"));
  for (const tenant of [ours, theirs]) await sealHours(audit, tenant, { from: null, to: now });
});

/** Of each template a question, and up to where it may read rows of counts. */
const queries = {
  rows: ["FIND decisions SINCE 2h", null],
  buckets: ["FIND decisions BUCKET BY 1h SINCE 2h", null],
  top: ["FIND decisions TOP 5 BY package SINCE 2h", null],
  top_buckets: ["FIND decisions BUCKET BY 1h TOP 5 BY package SINCE 2h", null],
  sealed_buckets: ["FIND decisions BUCKET BY 1h SINCE 2h", now],
  sealed_top: ["FIND decisions TOP 5 BY package SINCE 2h", now],
  sealed_top_buckets: ["FIND decisions BUCKET BY 1h TOP 5 BY package SINCE 2h", now],
  sealed_names: ["FIND decisions BUCKET BY 1h TOP 5 BY package SINCE 2h", now],
  open_cells: ["FIND decisions TOP 5 BY package SINCE 2h", null],
} as const satisfies Record<Template, readonly [query: string, sealedTo: number | null]>;

/** How many rows an answer of any template tells of: in rows, in cells, or in totals; what it tells twice, once. */
function counted(name: string, rows: readonly Record<string, unknown>[]): number {
  if (name === "rows") return rows.length;
  const sum = (counts: readonly unknown[]): number =>
    counts.flat(2).reduce((all: number, count) => all + Number(count), 0);
  const counts = rows.map((row) => {
    const cells = JSON.parse(String(row["cells"])) as unknown[][] | null;
    // Of sealed rows two lists, when and how many; of all others a list a cell, the count at its end.
    const isLists = name.startsWith("sealed") && row["rank"] !== null;
    return isLists ? sum(cells![1]!) : sum((cells ?? []).map((cell) => cell.at(-1)));
  });
  return name.startsWith("sealed") ? Math.max(0, ...counts) : sum(counts);
}

describe.each(Object.entries(queries))("%s", (name, [query, sealed_to]) => {
  const plan = planQuery(parsePql(query), query, now);
  const statement = (tenant: SQL): SQL => {
    const bounds: Bounds = { ...askLimits, tenant, before: null, sealed_to, names: ["ours", "theirs", null] };
    return (templates[name as Template] as (plan: Plan, bounds: Bounds) => SQL)(plan, bounds);
  };

  test("a tenant predicate that is always true still gives the caller's rows alone", async () => {
    const broken = statement(sql`e.tenant_id`);
    const [rows] = await asTenant(app, ours, [broken]);
    expect(counted(name, rows!)).toBe(30);
    // It is named by who asks for it, without anything that it has.
    expect(JSON.stringify(rows).replace(String.raw`[\"theirs\", 0]`, "")).not.toContain("theirs");
  });

  test("a tenant predicate that names another tenant gives nothing", async () => {
    const [rows] = await asTenant(app, ours, [statement(sql`${theirs}::uuid`)]);
    expect(counted(name, rows!)).toBe(0);
  });

  test("without a tenant set nothing is seen", async () => {
    for (const tenant of [sql`e.tenant_id`, sql`${ours}::uuid`]) {
      const [rows] = await inBatch(app, [statement(tenant)]);
      expect(counted(name, rows!)).toBe(0);
    }
  });
});

test("a condition that is always true finds the caller's rows alone", async () => {
  const query =
    'FIND events WHERE package = "theirs" OR NOT package = "theirs" OR rule = "x\' OR 1=1 --" TOP 5 BY package';
  const answer = await askPql(app, { tenant_id: ours, now, query });
  expect(answer).toMatchObject({ groups: [{ name: "ours", total: 30 }], other: 0, total: 30 });
});

describe("pages", () => {
  const query = "FIND decisions SINCE 2h";
  const limits = { ...askLimits, page_rows: 10 };
  const page = (cursor?: string, tenant = ours): ReturnType<typeof askPql> =>
    askPql(app, { tenant_id: tenant, now, query, cursor }, limits);

  test("rows come newest first, each once, and rows that arrive between pages shift nothing", async () => {
    const seen: unknown[] = [];
    let cursor: string | undefined;
    for (let pages = 0; pages < 3; pages += 1) {
      const answer = await askPql(app, { tenant_id: ours, now: now + pages * 3_600_000, query, cursor }, limits);
      if (answer.kind !== "rows") throw new Error("rows were asked for");
      seen.push(...answer.rows.map(({ seq }) => seq));
      cursor = answer.next_cursor ?? undefined;
      const late = rowOf(ours, 100 + pages, {
        type: "mc.policy.decision",
        logged_at: new Date(now + pages).toISOString(),
      });
      await writeEventRows(audit, [late]);
    }
    expect(seen).toEqual(Array.from({ length: 30 }, (_, index) => 29 - index));
    expect(cursor).toBeUndefined();
  });

  test("a cursor of another query, of the future, or of nothing is refused", async () => {
    const first = await page();
    if (first.kind !== "rows" || first.next_cursor === null) throw new Error("there are more rows than a page has");
    const cursor = first.next_cursor;
    const ask = (text: string, at: number, given: string): Promise<unknown> =>
      askPql(app, { tenant_id: ours, now: at, query: text, cursor: given }, limits);
    for (const [text, at, given] of [
      ["FIND decisions SINCE 3h", now, cursor],
      [query, now - 1, cursor],
      [query, now, `${cursor}x`],
      [query, now, ""],
      ["FIND decisions BUCKET BY 1h", now, cursor],
    ] as const) {
      await expect(ask(text, at, given)).rejects.toMatchObject({ code: "invalid_request", status: 400 });
    }
  });

  test("another tenant's cursor opens nothing of theirs", async () => {
    const first = await page(undefined, theirs);
    if (first.kind !== "rows" || first.next_cursor === null) throw new Error("there are more rows than a page has");
    const answer = await page(first.next_cursor);
    if (answer.kind !== "rows") throw new Error("rows were asked for");
    expect(answer.rows.every((row) => row["package"] === "ours")).toBe(true);
  });
});
