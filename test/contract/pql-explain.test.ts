// MC-PQL-1922: no full scans, bounded plans. Each template, as the API's own role, over the rows of many tenants: a million of
// them with MAESTRO_DEEP=1 and where CI is set, which takes a minute to write; 200,000 else.

import { sql, type SQL } from "drizzle-orm";
import pg from "pg";
import { beforeAll, expect, test } from "vitest";
import { askPql } from "../../shared/pql/engine.ts";
import { parsePql } from "../../shared/pql/parse.ts";
import { sealHours } from "../../shared/pql/hours-store.ts";
import { planQuery, type Plan } from "../../shared/pql/plan.ts";
import { hourMs } from "../../shared/pql/scan-parts.ts";
import { askLimits, guards } from "../../shared/pql/store.ts";
import { isBySlots, statementOf, templates, type Template } from "../../shared/pql/templates.ts";
import { asTenant } from "../../shared/tenancy/database.ts";
import { useStack } from "../support/stack.ts";
import { connect, tenantNumber } from "./pql-support.ts";

const stack = useStack();
const app = connect(stack, "app");
const now = Date.UTC(2026, 3, 13);
const isLarge = process.env["MAESTRO_DEEP"] === "1" || process.env["CI"] !== undefined;
const rowCount = isLarge ? 1_000_000 : 200_000;
/** Inside of an hour that is open, and of a slot. */
const openNow = now - 13 * hourMs + 17 * 60_000 + 123;
const sealedTo = now - 13 * hourMs;
/** Tenant n of 16 has twice as many rows as tenant n + 1, so that the first one has half of the table. */
const tenantOf = (number: number): string => tenantNumber(0xe000 + number);
const [largest, median] = [tenantOf(1), tenantOf(5)];

beforeAll(async () => {
  const owner = new pg.Client({ connectionString: stack.databaseUrls.owner });
  await owner.connect();
  try {
    await owner.query(
      `insert into audit_events
         (tenant_id, seq, logged_at, occurred_at, event_id, type, source, package, outcome, rule, execution_id, attrs)
       select ('00000000-0000-4000-8000-' || lpad(to_hex(x'e000'::int + tenant), 12, '0'))::uuid, row_number() over
           (partition by tenant order by row) - 1, at, at, 'evt_' || lpad(row::text, 26, '0'),
         (array['mc.policy.decision', 'mc.policy.decision', 'mc.execution.finished', 'mc.execution.started'])[1 + row % 4],
         'api', 'tools/p' || (row::bigint * 7919 % 40), (array['allow', 'allow', 'deny'])[1 + row % 3], 'ok',
         'exe_' || lpad((row / 8)::text, 26, '0'), '{"policy_sha256":"00","exit_code":0}'
       from (
         select row, least(16, 1 + floor(-ln(((row::bigint * 7919 % 99991) + 1) / 99992.0) / ln(2))::int) as tenant,
           timestamptz '2026-04-13Z' - make_interval(secs => 30 * 86400.0 * ($1 - row) / $1) as at
         from generate_series(0, $1 - 1) as row
       ) as rows
       on conflict do nothing`,
      [rowCount],
    );
    await owner.query("vacuum (analyze) audit_events");
    const audit = connect(stack, "audit");
    for (const tenant of [largest, median]) {
      let from: number | null = null;
      while (from === null || from < sealedTo)
        from = (await sealHours(audit, tenant, { from, to: sealedTo })).sealed_to;
    }
    for (const table of ["audit_hours", "audit_days"]) await owner.query(`vacuum (analyze) ${table}`);
  } finally {
    await owner.end();
  }
}, 300_000);

const planOf = (query: string, at = now): Plan => planQuery(parsePql(query), query, at);
const boundsOf = (tenant: string, sealed_to: number | null = null): Parameters<typeof statementOf>[1] => ({
  ...askLimits,
  tenant: sql`${tenant}::uuid`,
  before: null,
  sealed_to,
});

interface PlanNode {
  readonly "Node Type": string;
  readonly "Index Cond"?: string;
  readonly "Index Name"?: string;
  readonly "Relation Name"?: string;
  readonly Plans?: readonly PlanNode[];
}
const nodesOf = (node: PlanNode): PlanNode[] => [node, ...(node.Plans ?? []).flatMap(nodesOf)];

async function explain(tenant: string, statement: SQL, before: SQL): Promise<PlanNode[]> {
  const answers = await asTenant(app, tenant, [sql`explain (format json) ${statement}`], before);
  const [answer] = answers.at(-1)!;
  const json = answer!["QUERY PLAN"];
  const [{ Plan: root }] = (typeof json === "string" ? JSON.parse(json) : json) as [{ Plan: PlanNode }];
  return nodesOf(root);
}

const conditions = [
  "",
  'WHERE outcome = "deny"',
  'WHERE NOT (package LIKE "tools/p1%" OR units > 5)',
  'WHERE attrs.policy_sha256 = "00" AND EXISTS package',
  'WHERE package IN ("tools/p1", "tools/p2") OR occurred_at < 2026-04-01',
] as const;

/** Over the fields that rows of counts are kept by. */
const keptConditions = [
  "",
  'WHERE outcome = "deny"',
  'WHERE NOT (package LIKE "tools/p1%" OR EXISTS outcome)',
  'WHERE package IN ("tools/p1", "tools/p2") AND type != "mc.install.changed"',
] as const;

/** Every template has its line here: `satisfies` makes a missing one an error of types, the first test one of the run. */
const questions = {
  rows: (where, since) => [
    `FIND decisions ${where} SINCE ${since}`,
    `FIND events ${where} SINCE ${since}`,
    `FIND decisions ${where} SINCE ${since}`,
  ],
  buckets: (where, since) => [
    `FIND decisions ${where} BUCKET BY 1h SINCE ${since}`,
    `FIND events ${where} BUCKET BY 1h SINCE ${since}`,
  ],
  top: (where, since) => [
    `FIND decisions ${where} TOP 10 BY package SINCE ${since}`,
    `FIND events ${where} TOP 3 BY outcome SINCE ${since}`,
  ],
  top_buckets: (where, since) => [
    `FIND decisions ${where} BUCKET BY 1h TOP 10 BY package SINCE ${since}`,
    `FIND events ${where} BUCKET BY 1d TOP 100 BY attrs.policy_sha256 SINCE ${since}`,
  ],
} as const satisfies Partial<Record<Template, (where: string, since: string) => readonly string[]>>;
const slotQuestions = {
  sealed_buckets: (where, since) => [
    `FIND decisions ${where} BUCKET BY 5m SINCE ${since}`,
    `FIND events ${where} BUCKET BY 1h SINCE ${since}`,
  ],
  sealed_top: (where, since) => [
    `FIND decisions ${where} TOP 10 BY package SINCE ${since}`,
    `FIND events ${where} TOP 3 BY outcome SINCE ${since}`,
  ],
  sealed_top_buckets: (where, since) => [
    `FIND decisions ${where} BUCKET BY 5m TOP 10 BY package SINCE ${since}`,
    `FIND events ${where} BUCKET BY 1h TOP 10 BY package SINCE ${since}`,
    `FIND events ${where} BUCKET BY 1d TOP 5 BY type SINCE ${since}`,
  ],
  sealed_names: (where, since) => [
    `FIND decisions ${where} BUCKET BY 5m TOP 10 BY package SINCE ${since}`,
    `FIND events ${where} BUCKET BY 1h TOP 10 BY package SINCE ${since}`,
    `FIND events ${where} TOP 5 BY outcome SINCE ${since}`,
  ],
} as const satisfies Partial<Record<Template, (where: string, since: string) => readonly string[]>>;
/** Of what is not sealed. */
const openQuestions = {
  open_cells: (where, since) => [
    `FIND decisions ${where} BUCKET BY 5m SINCE ${since}`,
    `FIND events ${where} TOP 3 BY outcome SINCE ${since}`,
    `FIND events ${where} BUCKET BY 1h TOP 10 BY package SINCE ${since}`,
  ],
} as const satisfies Partial<Record<Template, (where: string, since: string) => readonly string[]>>;

/** Of any template; that a plan fits is what the engine sees to. */
const statementFor = (name: string, plan: Plan, tenant: string): SQL =>
  (templates[name as Template] as (plan: Plan, bounds: ReturnType<typeof boundsOf>) => SQL)(plan, {
    ...boundsOf(tenant, sealedTo),
    names: ["tools/p1", null, "allow"],
  });

test("every template is asserted here", () => {
  const asserted = [questions, slotQuestions, openQuestions].flatMap((some) => Object.keys(some));
  expect(asserted.sort()).toEqual(Object.keys(templates).sort());
});

const sequential = (nodes: readonly PlanNode[]): readonly PlanNode[] =>
  nodes.filter((node) => node["Node Type"] === "Seq Scan" && node["Relation Name"] !== undefined);

test.each(Object.entries(questions))(
  "%s reads the tenant's and the range's own stretch of an index",
  async (name, of) => {
    for (const query of conditions.flatMap((where) => of(where, "3d"))) {
      const plan = planOf(query);
      expect(plan.template).toBe(name);
      for (const tenant of [largest, median]) {
        const nodes = await explain(
          tenant,
          statementOf(plan, boundsOf(tenant)),
          guards(askLimits.statement_timeout_ms),
        );
        expect([query, sequential(nodes)]).toEqual([query, []]);
        const scans = nodes.filter((node) => node["Index Cond"] !== undefined);
        expect([query, scans.map((scan) => scan["Index Name"])]).toEqual([query, ["audit_events_by_time"]]);
        expect(scans[0]!["Index Cond"]).toMatch(/tenant_id = .*type = .*logged_at >= .*logged_at < /);
      }
    }
  },
);

test.each(Object.entries(questions))(
  "%s over all that the largest tenant has is no full scan either",
  async (_, of) => {
    for (const query of conditions.flatMap((where) => of(where, "90d"))) {
      const nodes = await explain(largest, statementOf(planOf(query), boundsOf(largest)), guards(1_000));
      expect([query, sequential(nodes)]).toEqual([query, []]);
      const scans = nodes.filter((node) => node["Index Name"] !== undefined);
      expect(scans.length).toBeGreaterThan(0);
      for (const scan of scans)
        expect([query, scan["Index Cond"]]).toEqual([query, expect.stringContaining("tenant_id = ")]);
    }
  },
);

/** Of a bitmap scan, the node that searches the index. */
const searches = (nodes: readonly PlanNode[]): readonly PlanNode[] =>
  nodes.filter((node) => node["Index Name"] !== undefined);

test.each(Object.entries({ ...slotQuestions, ...openQuestions }))(
  "%s reads the tenant's and the range's own stretches of an index",
  async (name, of) => {
    const indexes = new Set<string>();
    for (const since of ["25h", "12d"]) {
      for (const query of keptConditions.flatMap((where) => of(where, since))) {
        const plan = planOf(query, openNow);
        expect([query, isBySlots(plan, sealedTo)]).toEqual([query, true]);
        for (const tenant of [largest, median]) {
          const nodes = await explain(tenant, statementFor(name, plan, tenant), guards(1_000));
          expect([query, sequential(nodes)]).toEqual([query, []]);
          for (const search of searches(nodes)) {
            indexes.add(String(search["Index Name"]));
            expect(search["Index Cond"]).toMatch(
              search["Index Name"] === "audit_events_by_time"
                ? /tenant_id = .*type = .*logged_at >= .*logged_at < /
                : /tenant_id = .*is_sum = .*type = .*((hour|day) >= .*(hour|day) < |hour = ANY )/,
            );
          }
        }
      }
    }
    expect([...indexes].sort()).toEqual(
      name === "open_cells" ? ["audit_events_by_time"] : ["audit_days_by_time", "audit_hours_by_time"],
    );
  },
);

test("totals of whole hours and days, and series of others than leaders, visit no row, only the index", async () => {
  for (const [name, query] of [
    ["sealed_top", "FIND decisions TOP 10 BY package SINCE 12d"],
    ["sealed_top_buckets", "FIND decisions BUCKET BY 1d TOP 3 BY package SINCE 12d"],
    ["open_cells", "FIND decisions TOP 10 BY package SINCE 12d"],
  ] as const) {
    const plan = planOf(query, name === "open_cells" ? openNow : sealedTo);
    const nodes = await explain(largest, statementFor(name, plan, largest), guards(1_000));
    expect([query, new Set(searches(nodes).map((search) => search["Node Type"]))]).toEqual([
      query,
      new Set(["Index Only Scan"]),
    ]);
  }
});

test("the series of the leaders are found by name: no other package's rows are visited", async () => {
  const plan = planOf("FIND decisions BUCKET BY 5m TOP 3 BY package SINCE 25h", openNow);
  for (const name of ["sealed_top_buckets", "sealed_names"]) {
    const nodes = await explain(largest, statementFor(name, plan, largest), guards(1_000));
    const byName = nodes.filter((node) => /is_sum = false.*package = ANY/.test(node["Index Cond"] ?? ""));
    expect([name, byName.length > 0]).toEqual([name, true]);
  }
  for (const query of [
    "FIND decisions TOP 3 BY package SINCE 25h",
    "FIND decisions BUCKET BY 5m TOP 3 BY package SINCE 25h",
  ]) {
    const nodes = await explain(largest, statementFor("sealed_names", planOf(query, openNow), largest), guards(1_000));
    const ofAll = nodes
      .map((node) => node["Index Cond"] ?? "")
      .filter((condition) => condition.includes("is_sum = false") && !/package (?:= ANY|IS NULL)/.test(condition));
    expect([query, ofAll]).toEqual([query, []]);
  }
});

test("the planner chooses the index by itself for the usual questions: nothing needs to be forbidden to it", async () => {
  for (const query of [
    "FIND decisions SINCE 1d",
    'FIND decisions WHERE outcome = "deny" BUCKET BY 5m TOP 10 BY package SINCE 1d',
    "FIND decisions TOP 10 BY package SINCE 7d",
    "FIND events BUCKET BY 1h SINCE 1d",
  ]) {
    const nodes = await explain(median, statementOf(planOf(query), boundsOf(median)), sql``);
    expect([query, nodes.map((node) => node["Node Type"]).filter((type) => type === "Seq Scan")]).toEqual([query, []]);
  }
});

test("counting by the usual fields visits no row, only the index", async () => {
  for (const field of ["package", "outcome", "rule", "channel", "action", "type"]) {
    const plan = planOf(`FIND decisions WHERE outcome = "deny" BUCKET BY 1h TOP 10 BY ${field} SINCE 7d`);
    const nodes = await explain(largest, statementOf(plan, boundsOf(largest)), guards(1_000));
    expect(nodes.map((node) => node["Node Type"])).toContain("Index Only Scan");
  }
});

test("one run's events come from the index by run, however long the range", async () => {
  const plan = planOf('FIND events WHERE execution_id = "exe_00000000000000000000000042" SINCE 400d');
  const nodes = await explain(largest, statementOf(plan, boundsOf(largest)), guards(1_000));
  expect(nodes.map((node) => node["Index Name"])).toContain("audit_events_by_execution");
});

test("a question that counts over the row cap is refused, and one at the cap is answered", async () => {
  const question = { tenant_id: median, now, query: "FIND decisions TOP 1 BY package SINCE 30d" };
  const answer = await askPql(app, question);
  if (answer.kind !== "groups") throw new Error("TOP gives groups");
  expect(answer.total).toBeGreaterThan(1_000);
  await expect(askPql(app, question, { ...askLimits, counted_rows_max: answer.total - 1 })).rejects.toMatchObject({
    code: "too_many_rows",
    status: 422,
  });
  expect(await askPql(app, question, { ...askLimits, counted_rows_max: answer.total })).toEqual(answer);
});

test("with rows of counts, the row cap is for the events that are read beside them", async () => {
  const query = "FIND decisions TOP 1 BY package SINCE 12d";
  const question = { tenant_id: largest, now: openNow, query, sealed_to: sealedTo };
  const answer = await askPql(app, question, { ...askLimits, counted_rows_max: 1_000 });
  if (answer.kind !== "groups") throw new Error("TOP gives groups");
  expect(answer.total).toBeGreaterThan(5_000);
  expect(answer).toEqual(await askPql(app, { ...question, sealed_to: null }));
  await expect(askPql(app, question, { ...askLimits, counted_rows_max: 3 })).rejects.toMatchObject({
    code: "too_many_rows",
  });
});

test("a question that takes too long is ended by the database, and the next one is not touched by that", async () => {
  const query = 'FIND events WHERE attrs.policy_sha256 LIKE "%0%" TOP 50 BY execution_id SINCE 30d';
  const question = { tenant_id: largest, now, query };
  await expect(askPql(app, question, { ...askLimits, statement_timeout_ms: 1 })).rejects.toMatchObject({
    code: "too_many_rows",
    members: { time_max_ms: 1 },
  });
  // With time enough on a busy machine.
  expect((await askPql(app, question, { ...askLimits, statement_timeout_ms: 30_000 })).kind).toBe("groups");
});
