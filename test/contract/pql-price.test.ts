// Price first, on the real stack: what a question reads is known and said before anything is read, and a question that is
// refused, or only explained, reads nothing.

import { beforeAll, describe, expect, test } from "vitest";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import type { EventType } from "../../shared/contract/events.ts";
import { SealedCache } from "../../shared/pql/sealed-cache.ts";
import { AnswerCache } from "../../shared/pql/answer-cache.ts";
import { limits } from "../../shared/pql/limits.ts";
import { hourMs } from "../../shared/pql/scan-parts.ts";
import { Problem } from "../../shared/contract/problems.ts";
import { writeEventRows } from "../../shared/pql/store.ts";
import type { Database } from "../../shared/tenancy/database.ts";
import { databaseAs, localApi, type LocalApi } from "../support/api.ts";
import { contractOf, type CheckedAnswer, type Contract } from "../support/openapi.ts";
import { jsonCall } from "../support/publisher.ts";
import { useStack } from "../support/stack.ts";
import { connect, rowOf } from "./pql-support.ts";

const stack = useStack();
let api: Contract;
let tenant: SeededTenant;
let costly: SeededTenant;
/** The hour before this one: its events are asked for as a whole, whatever the minute now. */
const lastHour = Math.floor(Date.now() / hourMs) * hourMs - hourMs;

const tell = (tenantId: string, type: EventType, rows: number): Promise<void> =>
  stack.meter(tenantId).report({
    indexed_seq: 2_000_000,
    indexed_to: lastHour + hourMs - 1,
    sealed_to: null,
    hours: [{ hour: lastHour, type, rows, groups: 0 }],
    days: [],
  });

beforeAll(async () => {
  api = await contractOf(stack.apiUrl);
  tenant = await stack.seedTenant("pql-price");
  costly = await stack.seedTenant("pql-price-costly");
  const rows = Array.from({ length: 250 }, (_, index) =>
    rowOf(tenant.tenant_id, 1_000_000 + index, {
      type: "mc.install.changed",
      package: "tools/a",
      logged_at: new Date(lastHour + index * 1_000).toISOString(),
    }),
  );
  await writeEventRows(connect(stack, "audit"), rows);
  await tell(tenant.tenant_id, "mc.install.changed", 250);
  await tell(costly.tenant_id, "mc.install.changed", 1_200_000);
  await tell(costly.tenant_id, "mc.entitlement.changed", limits.priceRowsMax);
});

const ask = (of: SeededTenant, body: Readonly<Record<string, unknown>>): Promise<CheckedAnswer> =>
  api.fetch("/api/pql", jsonCall(of.keys.auditor, "POST", body));

test("every answer has its price: rows, pages of rows, and counts", async () => {
  const price = async (query: string, cursor?: string): Promise<unknown> => {
    const answer = await ask(tenant, cursor === undefined ? { query } : { query, cursor });
    expect(answer.status).toBe(200);
    return answer.json.price;
  };
  const limit = limits.priceRowsMax;
  expect(await price("FIND installs TOP 5 BY package SINCE 3h")).toEqual({ rows: 250, limit });
  expect(await price("FIND installs BUCKET BY 5m TOP 5 BY package SINCE 3h")).toEqual({ rows: 250, limit });
  expect(await price("FIND decisions SINCE 3h")).toEqual({ rows: 0, limit });
  expect(await price("FIND installs SINCE 3h")).toEqual({ rows: 101, limit });
  const searched = 'FIND installs WHERE package = "tools/a" SINCE 3h';
  expect(await price(searched)).toEqual({ rows: 250, limit });
  const first = await ask(tenant, { query: searched });
  // The hour is known to have its events somewhere: what is left of it counts in proportion.
  expect(await price(searched, first.json.next_cursor)).toEqual({ rows: 11, limit });
});

describe("a question over its limit", () => {
  test("is refused with its price, the limit and what would fit; and what would fit, fits", async () => {
    const refused = await ask(costly, { query: "FIND installs TOP 5 BY rule SINCE 6h" });
    expect(refused.status).toBe(422);
    expect(refused.json).toMatchObject({
      code: "pql_too_expensive",
      price: { rows: 1_200_000, limit: limits.priceRowsMax },
      detail: "The question would read 1200000 rows; one question may read 1000000.",
    });
    const [change] = refused.json.changes as { kind: string; text: string; rows: number }[];
    expect(change).toMatchObject({ kind: "since" });
    expect(refused.json.suggestion).toContain(`${change!.text} (${change!.rows} rows)`);
    const shorter = await ask(costly, { query: `FIND installs TOP 5 BY rule ${change!.text}` });
    expect(shorter.status).toBe(200);
    expect(shorter.json.price.rows).toBeLessThanOrEqual(limits.priceRowsMax);
  });

  test("names the field that keeps it from rows of counts", async () => {
    const sealed = await stack.seedTenant("pql-price-sealed");
    const hour = { type: "mc.install.changed", rows: 1_200_000, groups: 40 } as const;
    await stack.meter(sealed.tenant_id).report({
      indexed_seq: 5,
      indexed_to: lastHour + hourMs - 1,
      sealed_to: lastHour + hourMs,
      hours: [{ ...hour, hour: lastHour }],
      days: [],
    });
    const refused = await ask(sealed, {
      query: 'FIND installs WHERE rule = "x" BUCKET BY 5m TOP 5 BY package SINCE 6h',
    });
    expect(refused.json.changes).toContainEqual({ kind: "drop", text: "drop rule", rows: 80 });
  });
});

describe("in this process, where what is read can be counted", () => {
  async function counted(meter: unknown): Promise<LocalApi & { reads(): number }> {
    let reads = 0;
    const real = databaseAs(stack, "app");
    const database = new Proxy(real, {
      get(target, name) {
        if (name === "batch" || name === "execute") reads += 1;
        const member = Reflect.get(target, name) as unknown;
        return typeof member === "function" ? (member.bind(target) as unknown) : member;
      },
    }) satisfies Database;
    const local = await localApi(stack, {
      database,
      meter: () => meter,
      noteQueryTime: () => undefined,
      answers: new AnswerCache(),
      sealedCounts: new SealedCache(),
      // The flag's own way is in pql-formats.test.ts.
      pqlGrammar: { get: () => true },
    });
    return { ...local, reads: () => reads };
  }
  const asked = async (local: LocalApi, of: SeededTenant, body: Readonly<Record<string, unknown>>) => {
    const response = await local.fetch("/api/pql", jsonCall(of.keys.auditor, "POST", body));
    return {
      status: response.status,
      headers: response.headers,
      json: (await response.json()) as Record<string, unknown>,
    };
  };

  test("a refused question and an explained one read nothing; an admitted one does", async () => {
    const local = await counted(stack.meter(costly.tenant_id));
    const query = "FIND installs TOP 5 BY rule SINCE 6h";
    expect((await asked(local, costly, { query })).status).toBe(422);
    expect((await asked(local, costly, { query, explain: true })).status).toBe(200);
    expect(local.reads()).toBe(0);
    expect((await asked(local, costly, { query: "FIND decisions TOP 5 BY rule SINCE 6h" })).status).toBe(200);
    expect(local.reads()).toBeGreaterThan(0);
  });

  test("where the meter does not answer nothing is read, and the caller is told when to come back", async () => {
    const local = await counted({
      admit: () => Promise.reject(new Problem("meter_unavailable", "It did not answer.")),
    });
    const answer = await asked(local, tenant, { query: "FIND installs SINCE 3h" });
    expect([answer.status, answer.json["code"], answer.headers.get("retry-after")]).toEqual([
      503,
      "meter_unavailable",
      "1",
    ]);
    expect(local.reads()).toBe(0);
  });

  test("while nothing is logged, counts by bucket are read once, and who has them is told that they still hold", async () => {
    const still = await stack.seedTenant("pql-price-still");
    const meter = stack.meter(still.tenant_id);
    const local = await counted(meter);
    const write = async (seq: number): Promise<void> => {
      const at = lastHour + seq * 1_000;
      const row = { type: "mc.install.changed", package: "tools/a", logged_at: new Date(at).toISOString() } as const;
      await writeEventRows(connect(stack, "audit"), [rowOf(still.tenant_id, seq, row)]);
      const hours = [{ hour: lastHour, type: row.type, rows: seq - 999, groups: 0 }];
      await meter.report({ indexed_seq: seq + 1, indexed_to: at, sealed_to: null, hours, days: [] });
    };
    await write(1_000);
    const query = "FIND installs BUCKET BY 1d TOP 5 BY package SINCE 2d";
    const first = await asked(local, still, { query });
    const reads = local.reads();
    const etag = first.headers.get("etag")!;
    expect(first.headers.get("cache-control")).toBe("private, no-cache");
    expect(first.headers.get("vary")).toBe("Authorization, accept");
    expect(first.json).toMatchObject({ total: 1 });

    const again = await asked(local, still, { query });
    expect({ ...again.json, covers: first.json["covers"] }).toEqual(first.json);
    expect(again.headers.get("etag")).toBe(etag);
    const call = jsonCall(still.keys.auditor, "POST", { query }, { "if-none-match": etag });
    const unchanged = await local.fetch("/api/pql", call);
    expect([unchanged.status, unchanged.headers.get("etag"), await unchanged.text()]).toEqual([304, etag, ""]);
    expect(local.reads()).toBe(reads);
    // Another tenant's tag opens nothing, and neither does the tag of another question.
    const other = jsonCall(tenant.keys.auditor, "POST", { query }, { "if-none-match": etag });
    expect((await (await counted(stack.meter(tenant.tenant_id))).fetch("/api/pql", other)).status).toBe(200);

    await write(1_001);
    const newer = await local.fetch("/api/pql", call);
    expect(newer.status).toBe(200);
    expect(await newer.json()).toMatchObject({ total: 2 });
    expect(newer.headers.get("etag")).not.toBe(etag);
    expect(local.reads()).toBeGreaterThan(reads);
  });

  test("where Postgres is ahead of the meter an answer has no tag, and is read anew each time", async () => {
    const ahead = await stack.seedTenant("pql-price-ahead");
    const local = await counted(stack.meter(ahead.tenant_id));
    const row = { type: "mc.install.changed", logged_at: new Date(lastHour).toISOString() } as const;
    await writeEventRows(connect(stack, "audit"), [rowOf(ahead.tenant_id, 1_000, row)]);
    const query = "FIND installs BUCKET BY 1d SINCE 2d";
    const first = await asked(local, ahead, { query });
    expect([first.status, first.headers.get("etag"), first.json["total"]]).toEqual([200, null, 1]);
    const reads = local.reads();
    await asked(local, ahead, { query });
    expect(local.reads()).toBeGreaterThan(reads);
  });

  test("a query that cannot be run asks no meter", async () => {
    let admissions = 0;
    const local = await counted({ admit: () => Promise.reject(new Error(`asked ${(admissions += 1)} times`)) });
    expect((await asked(local, tenant, { query: "FIND nothing" })).json["code"]).toBe("pql_invalid");
    expect(admissions).toBe(0);
  });
});

test("explained, a question says what it reads, what it costs, whether it would be admitted, and what would fit", async () => {
  const explained = await ask(tenant, { query: "FIND installs BUCKET BY 5m TOP 5 BY package SINCE 3h", explain: true });
  expect(explained.status).toBe(200);
  expect(explained.json).toMatchObject({
    kind: "explain",
    template: "top_buckets",
    cells: 37 * 6,
    price: { rows: 250, limit: limits.priceRowsMax },
    verdict: "admitted",
    retry_after_ms: null,
    changes: [],
    reads: { totals: [{ level: "raw" }], series: [{ level: "raw" }] },
    words: [
      "The 5 largest groups by package, and the others in one in buckets of 300 s: 222 cells.",
      "Groups are read from the events.",
      "Counts by bucket are read from the events.",
      "It reads at most 250 rows; one question may read 1000000.",
    ],
  });
  const refused = await ask(costly, { query: "FIND installs TOP 5 BY rule SINCE 6h", explain: true });
  expect(refused.json).toMatchObject({ verdict: "too_expensive", changes: [{ kind: "since" }] });
  expect(refused.json.words).toContainEqual(expect.stringMatching(/^It would be refused\. It would fit with SINCE /));
});

test("a tenant that has used up its rows is told when to come back, and admitted then; another one never waits", async () => {
  const query = "FIND entitlements TOP 5 BY rule SINCE 6h";
  const asked = await Promise.all(Array.from({ length: 12 }, () => ask(costly, { query })));
  const refused = asked.filter(({ status }) => status === 429);
  expect(asked.filter(({ status }) => status === 200).length).toBeGreaterThanOrEqual(3);
  expect(refused.length).toBeGreaterThan(0);
  expect(refused[0]!.json).toMatchObject({ code: "pql_rate_limited", price: { rows: limits.priceRowsMax } });
  expect((await ask(tenant, { query: "FIND installs SINCE 3h" })).status).toBe(200);
  const seconds = Number(refused[0]!.headers.get("retry-after"));
  expect(seconds).toBe(1);
  await new Promise((resolve) => setTimeout(resolve, seconds * 1_000));
  expect((await ask(costly, { query })).status).toBe(200);
});

test("/api/metrics has how long each question took, by template and outcome, each once", async () => {
  const timed = await stack.seedTenant("pql-price-timed");
  await ask(timed, { query: "FIND installs TOP 5 BY package SINCE 3h" });
  await ask(timed, { query: "FIND installs BUCKET BY 1h SINCE 3h" });
  await ask(timed, { query: "FIND installs SINCE 3h" });
  await ask(timed, { query: "FIND installs SINCE 3h", explain: true });
  await ask(timed, { query: "FIND nothing" });
  await ask(timed, { query: "FIND installs TOP" });
  const counted = async (): Promise<string[]> => {
    const answer = await api.fetch("/api/metrics", jsonCall(timed.keys.viewer, "GET"));
    const text = new TextDecoder().decode(answer.bytes);
    return text.split("\n").filter((line) => line.startsWith("mc_pql12_query_ms_count"));
  };
  await expect.poll(counted, { timeout: 10_000 }).toHaveLength(5);
  expect(await counted()).toEqual([
    'mc_pql12_query_ms_count{template="buckets",outcome="ok"} 1',
    'mc_pql12_query_ms_count{template="none",outcome="invalid"} 2',
    'mc_pql12_query_ms_count{template="rows",outcome="explained"} 1',
    'mc_pql12_query_ms_count{template="rows",outcome="ok"} 1',
    'mc_pql12_query_ms_count{template="top",outcome="ok"} 1',
  ]);
});

test("on the stack an answer by bucket has a tag that is good for a 304", async () => {
  const tagged = await stack.seedTenant("pql-price-tagged");
  const row = { type: "mc.install.changed", logged_at: new Date(lastHour).toISOString() } as const;
  await writeEventRows(connect(stack, "audit"), [rowOf(tagged.tenant_id, 1_000, row)]);
  const report = { indexed_seq: 1_001, indexed_to: lastHour, sealed_to: null, hours: [], days: [] };
  await stack.meter(tagged.tenant_id).report(report);
  const query = "FIND installs BUCKET BY 1d SINCE 2d";
  const first = await ask(tagged, { query });
  const headers = { "if-none-match": first.headers.get("etag")! };
  const again = await api.fetch("/api/pql", jsonCall(tagged.keys.auditor, "POST", { query }, headers));
  expect([first.status, again.status]).toEqual([200, 304]);
});
