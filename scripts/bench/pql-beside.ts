// What the PQL benchmark's figures stand beside: the same questions to the templates that read events alone, to SQL written by
// hand for the covering index, and to DuckDB over Parquet of the same rows; and the rows that Postgres says it read, over those
// that the price promised. Called by pql.ts.

import { mkdirSync, readdirSync, renameSync } from "node:fs";
import { join } from "node:path";
import { DuckDBInstance, type DuckDBConnection } from "@duckdb/node-api";
import { parsePql } from "../../shared/pql/parse.ts";
import { planQuery, type Plan } from "../../shared/pql/plan.ts";
import { withClient } from "../stack/connection.ts";
import type { Bench, Figures } from "./benchmark.ts";
import { questionNames, questions, type Asked, type QuestionName } from "./pql-mix.ts";
import { Connections, preparedQuestion, type Http, type Prepared } from "./pql-load.ts";
import { medianTenant, type World, type WorldTenant } from "./pql-world.ts";
import { percentile, rounded } from "./statistics.ts";

/** Of each way, turn by turn, so that whatever else happens on the machine happens to all. */
export const besideRounds = 20;

type TopBuckets = Extract<Plan, { readonly template: "top_buckets" }>;

export async function compareWays(bench: Bench, world: World, http: Http): Promise<Record<string, Figures>> {
  const { stack, signal, progress } = bench;
  const named = { largest: world.tenants[0]!, median: world.tenants[medianTenant]! } as const;
  const duckdb = await (await DuckDBInstance.create(":memory:")).connect();
  const parts: Record<string, Figures> = {};
  let different = 0;
  try {
    for (const [name, tenant] of Object.entries(named)) {
      const files = await writeParquet(bench, duckdb, name, tenant);
      for (const question of questionNames) {
        progress(`${question} of the ${name} tenant, four ways`);
        const { query } = questions[question];
        const now = Date.now();
        const plan = planOf(query, now);
        const asked = { tenant_id: tenant.tenant_id, now, query };
        const slots = await preparedQuestion({ ...asked, sealed_to: tenant.sealed_to });
        const raw = await preparedQuestion({ ...asked, sealed_to: null });
        const hand = byHand(question, tenant.tenant_id, plan);
        const connection = await Connections.open(stack, 1);
        try {
          const ways = {
            slots: () => connection.ask(slots),
            raw: () => connection.ask(raw),
            by_hand: () => connection.ask({ ...slots, questions: [hand] }),
            duckdb: () => duckdb.runAndReadAll(duckdbText(question, files, plan)),
          };
          parts[`${question}_${name}`] = await timeWays(ways, signal);
        } finally {
          await connection.close();
        }
        if (!(await answersAlike(http, duckdb, question, tenant, files))) different += 1;
      }
    }
  } finally {
    duckdb.closeSync();
  }
  return { ...parts, answers: { compared: Object.keys(parts).length, different } };
}

const planOf = (query: string, now: number): TopBuckets => {
  const plan = planQuery(parsePql(query), query, now);
  if (plan.template !== "top_buckets") throw new Error(`not of the benchmark's kind: ${query}`);
  return plan;
};

async function timeWays(ways: Readonly<Record<string, () => Promise<unknown>>>, signal: AbortSignal): Promise<Figures> {
  const times = new Map(Object.keys(ways).map((way) => [way, [] as number[]]));
  // The first rounds are for plans, which Postgres makes anew five times, and for caches.
  for (let round = -6; round < besideRounds; round += 1) {
    for (const [way, ask] of Object.entries(ways)) {
      signal.throwIfAborted();
      const askedAt = performance.now();
      await ask();
      if (round >= 0) times.get(way)!.push(performance.now() - askedAt);
    }
  }
  return Object.fromEntries(
    [...times].flatMap(([way, ms]) => [
      [`${way}_p50_ms`, rounded(percentile(ms, 0.5))],
      [`${way}_p95_ms`, rounded(percentile(ms, 0.95))],
    ]),
  );
}

const isOfDenials = (question: QuestionName): boolean => question !== "all_24h";

/** As a person would write it who knows the index: one scan of it, the cells counted, the ten largest kept. */
function byHand(question: QuestionName, tenantId: string, { from, to, bucket_ms: step, top }: TopBuckets): Prepared {
  return {
    text: `with counted as materialized (
        select package, floor((extract(epoch from logged_at) * 1000 - $4::bigint) / $5::bigint)::int as slot, count(*) as n
        from audit_events
        where tenant_id = $1::uuid and type = 'mc.policy.decision' and logged_at >= $2 and logged_at < $3
          ${isOfDenials(question) ? "and outcome = 'deny'" : ""}
        group by 1, 2
      ), leaders as (
        select package from counted group by package order by sum(n) desc, package limit ${top}
      )
      select leaders.package, slot, sum(n)::text as n from counted left join leaders using (package) group by 1, 2`,
    params: [tenantId, new Date(from).toISOString(), new Date(to).toISOString(), from, step],
  };
}

const duckdbText = (question: QuestionName, files: string, { from, to, bucket_ms: step, top }: TopBuckets): string =>
  `with counted as materialized (
     select package, ((at_ms - ${from}) // ${step})::int as slot, count(*) as n from read_parquet('${files}')
     where type = 'mc.policy.decision' and at_ms >= ${from} and at_ms < ${to} ${isOfDenials(question) ? "and outcome = 'deny'" : ""}
     group by all
   ), leaders as (
     select package from counted group by package order by sum(n) desc, package limit ${top}
   )
   select leaders.package as package, slot, sum(n)::int as n from counted left join leaders using (package) group by all`;

interface FoundCell {
  readonly package: string | null;
  readonly slot: number;
  readonly n: number;
}

/** The product's answer over HTTP, cell by cell, against DuckDB's. */
async function answersAlike(
  http: Http,
  duckdb: DuckDBConnection,
  question: QuestionName,
  tenant: WorldTenant,
  files: string,
): Promise<boolean> {
  const { query } = questions[question];
  const answer = JSON.parse(await http.ask(tenant.keys.auditor, query)) as {
    readonly covers: { readonly to: string };
    readonly groups: readonly { readonly name: string }[];
    readonly buckets: readonly { readonly counts: readonly number[]; readonly other: number }[];
  };
  const given = new Map<string, number>();
  for (const [slot, { counts, other }] of answer.buckets.entries()) {
    for (const [at, count] of counts.entries()) given.set(`${answer.groups[at]!.name} ${slot}`, count);
    given.set(`null ${slot}`, other);
  }
  const plan = planOf(query, Date.parse(answer.covers.to));
  const rows = (await duckdb.runAndReadAll(duckdbText(question, files, plan))).getRowObjectsJson();
  let found = 0;
  for (const { package: name, slot, n } of rows as unknown as readonly FoundCell[]) {
    found += n;
    if (given.get(`${name} ${slot}`) !== n) return false;
  }
  return found === [...given.values()].reduce((sum, count) => sum + count, 0);
}

const rowsPerFile = 500_000;
const rowsPerRead = 50_000;

/** The columns that the questions need, in the order of time; what stands is kept. Answers the files' pattern. */
async function writeParquet(
  { stack, signal, progress }: Bench,
  duckdb: DuckDBConnection,
  name: string,
  tenant: WorldTenant,
): Promise<string> {
  const folder = join(stack.folder, "parquet", name);
  mkdirSync(folder, { recursive: true });
  const ends = readdirSync(folder).flatMap((file) => /-(\d+)\.parquet$/.exec(file)?.[1] ?? []);
  let next = Math.max(0, ...ends.map(Number));
  await withClient(stack.databaseUrls.owner, async (client) => {
    while (next < tenant.events) {
      const end = Math.min(tenant.events, next + rowsPerFile);
      await duckdb.run(
        "create or replace table part (seq bigint, at_ms bigint, type text, outcome text, package text)",
      );
      const appender = await duckdb.createAppender("part");
      for (let from = next; from < end; from += rowsPerRead) {
        signal.throwIfAborted();
        progress(`Parquet of the ${name} tenant: ${from} of ${tenant.events}`);
        const { rows } = await client.query<[string, string, string, string | null, string]>({
          text: `select seq, (extract(epoch from logged_at) * 1000)::bigint, type, outcome, package from audit_events
            where tenant_id = $1 and seq >= $2 and seq < $3 order by seq`,
          values: [tenant.tenant_id, from, Math.min(end, from + rowsPerRead)],
          rowMode: "array",
        });
        for (const [seq, at, type, outcome, packageName] of rows) {
          appender.appendBigInt(BigInt(seq));
          appender.appendBigInt(BigInt(at));
          appender.appendVarchar(type);
          if (outcome === null) appender.appendNull();
          else appender.appendVarchar(outcome);
          appender.appendVarchar(packageName);
          appender.endRow();
        }
      }
      appender.closeSync();
      const path = join(folder, `${next}-${end}.parquet`);
      await duckdb.run(`copy (select * from part order by seq) to '${path}.part' (format parquet)`);
      renameSync(`${path}.part`, path);
      next = end;
    }
  });
  return join(folder, "*.parquet");
}

interface PlanNode {
  readonly "Node Type": string;
  readonly "Relation Name"?: string;
  readonly "Actual Rows": number;
  readonly "Actual Loops": number;
  readonly "Rows Removed by Filter"?: number;
  readonly "Rows Removed by Index Recheck"?: number;
  readonly Plans?: readonly PlanNode[];
}

/** Rows of tables that a plan's scans read, those that their filters threw away too. */
function rowsRead(node: PlanNode): number {
  const below = (node.Plans ?? []).reduce((sum, child) => sum + rowsRead(child), 0);
  if (node["Relation Name"] === undefined) return below;
  const removed = (node["Rows Removed by Filter"] ?? 0) + (node["Rows Removed by Index Recheck"] ?? 0);
  return below + (node["Actual Rows"] + removed) * node["Actual Loops"];
}

/** `ratio` is of all rows together; `ratio_p50` and `ratio_max` are of questions one by one. */
export async function measureScans(
  { stack, signal, progress }: Bench,
  world: World,
  http: Http,
  mix: readonly Asked[],
): Promise<Figures> {
  progress("rows read, and rows that the price promised");
  const counts: { read: number; promised: number }[] = [];
  for (const { question, tenant: number } of mix) {
    signal.throwIfAborted();
    const tenant = world.tenants[number]!;
    const { query } = questions[question];
    const explained = JSON.parse(
      await http.call("POST", "/api/pql", tenant.keys.auditor, { query, explain: true }),
    ) as { readonly price: { readonly rows: number } };
    const asked = { tenant_id: tenant.tenant_id, now: Date.now(), query, sealed_to: tenant.sealed_to };
    const prepared = await preparedQuestion(asked);
    const connection = await Connections.open(stack, 1);
    try {
      let read = 0;
      for (const { text, params } of prepared.questions) {
        const explaining = { text: `explain (analyze, timing off, format json) ${text}`, params };
        const [row] = await connection.ask({ ...prepared, questions: [explaining] });
        const [{ Plan: plan }] = row!["QUERY PLAN"] as [{ readonly Plan: PlanNode }];
        read += rowsRead(plan);
      }
      counts.push({ read, promised: explained.price.rows });
    } finally {
      await connection.close();
    }
  }
  const total = (pick: (count: (typeof counts)[number]) => number): number =>
    counts.reduce((sum, count) => sum + pick(count), 0);
  // One row more on both sides: a question may read none, and be promised none.
  const ratios = counts.map(({ read, promised }) => (read + 1) / (promised + 1));
  return {
    ratio: rounded(total(({ read }) => read) / total(({ promised }) => promised)),
    ratio_p50: rounded(percentile(ratios, 0.5)),
    ratio_max: rounded(percentile(ratios, 1)),
    read_p50: rounded(
      percentile(
        counts.map(({ read }) => read),
        0.5,
      ),
    ),
    read_max: rounded(
      percentile(
        counts.map(({ read }) => read),
        1,
      ),
    ),
    questions: counts.length,
  };
}
