// POST /api/pql in each of its formats, through the whole door, and with the flag pql_v1_2 switched.

import { DuckDBInstance } from "@duckdb/node-api";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { maestro, testFolder, testHost } from "../../cli/testing/host.ts";
import { pqlAnswer, type PqlAnswer } from "../../shared/contract/http-pql.ts";
import { tableOf } from "../../shared/pql/answer-table.ts";
import { csvOf, ndjsonOf, pqlFormats } from "../../shared/pql/formats.ts";
import { writeEventRows } from "../../shared/pql/store.ts";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import { contractOf, type CheckedAnswer, type Contract } from "../support/openapi.ts";
import { jsonCall, must } from "../support/publisher.ts";
import { useStack } from "../support/stack.ts";
import { connect, rowOf } from "./pql-support.ts";

const stack = useStack();
let api: Contract;
let tenant: SeededTenant;

beforeAll(async () => {
  [api, tenant] = await Promise.all([contractOf(stack.apiUrl), stack.seedTenant("pql-formats")]);
  const rows = Array.from({ length: 120 }, (_, index) =>
    rowOf(tenant.tenant_id, 1_000_000 + index, {
      type: "mc.entitlement.changed",
      package: index % 3 === 0 ? null : "tools/a",
      outcome: "allowed",
      attributes: index % 2 === 0 ? { version_range: "=1.2.3" } : {},
      logged_at: new Date(Date.now() - (600 - index) * 1000).toISOString(),
    }),
  );
  await writeEventRows(connect(stack, "audit"), rows);
});

const rowsQuery = "FIND entitlements SINCE 1h";
const countsQuery = "FIND entitlements BUCKET BY 5m TOP 2 BY attrs.version_range SINCE 1h";

const ask = (query: string, accept: string | null, cursor?: string): Promise<CheckedAnswer> =>
  api.fetch(
    "/api/pql",
    jsonCall(
      tenant.keys.auditor,
      "POST",
      { query, ...(cursor === undefined ? {} : { cursor }) },
      accept === null ? {} : { accept },
    ),
  );
const text = ({ bytes }: CheckedAnswer): string => new TextDecoder().decode(bytes);

/** The same question twice: the second time, time has gone on by a little. Rows stand still, and so do counts. */
async function both(query: string, accept: string): Promise<{ answer: PqlAnswer; other: CheckedAnswer }> {
  const answer = pqlAnswer.parse(must(200, await ask(query, "application/json")).json);
  return { answer, other: must(200, await ask(query, accept)) };
}

describe("the format that Accept asks for", () => {
  test("is JSON where nothing is asked for, and for whoever takes anything", async () => {
    for (const accept of [null, "*/*", "application/*", "application/json;charset=utf-8"]) {
      const answer = must(200, await ask(rowsQuery, accept));
      expect(answer.headers.get("content-type")).toBe("application/json");
      expect(answer.headers.get("vary")).toContain("accept");
    }
  });

  test("NDJSON and CSV have the values of the JSON answer, and its cursor leads on in any format", async () => {
    const { answer, other } = await both(rowsQuery, "application/x-ndjson");
    expect(other.headers.get("content-type")).toBe("application/x-ndjson");
    expect(text(other)).toBe(ndjsonOf(tableOf(answer)));
    const cursor = other.headers.get("pql-next-cursor");
    const last = must(200, await ask(rowsQuery, "text/csv", cursor!));
    expect(last.headers.get("content-type")).toBe("text/csv; charset=utf-8; header=present");
    const asJson = pqlAnswer.parse(must(200, await ask(rowsQuery, "application/json", cursor!)).json);
    expect(text(last)).toBe(csvOf(tableOf(asJson)));
    expect(text(last).trimEnd().split("\r\n")).toHaveLength(21);
    expect(last.headers.get("pql-next-cursor")).toBeNull();
    // One range for all pages, also across formats.
    expect(last.headers.get("pql-covers")).toBe(other.headers.get("pql-covers"));
    expect(last.headers.get("vary")).toContain("accept");
  });

  test("counts go out in long form, with a formula as a text", async () => {
    const { answer, other } = await both(countsQuery, "text/csv");
    if (answer.kind !== "groups") throw new Error("counts were asked for");
    expect(text(other)).toContain(",'=1.2.3,");
    const sum = text(other)
      .trimEnd()
      .split("\r\n")
      .slice(1)
      .reduce((total, line) => total + Number(line.split(",").at(-1)), 0);
    expect([sum, answer.total]).toEqual([120, 120]);
    expect(other.headers.get("pql-bucket-ms")).toBe("300000");
    expect(other.headers.get("pql-field")).toBe("attrs.version_range");
  });

  test("Parquet is read by DuckDB, with the range that it covers", async () => {
    const parquet = must(200, await ask(countsQuery, "application/vnd.apache.parquet"));
    expect(parquet.headers.get("content-type")).toBe("application/vnd.apache.parquet");
    const file = join(testFolder(), "answer.parquet");
    writeFileSync(file, parquet.bytes);
    const connection = await (await DuckDBInstance.create(":memory:")).connect();
    try {
      const found = await connection.runAndReadAll(
        `select name, sum(count)::int as count from read_parquet('${file}') where kind = 'group' group by all order by name nulls last`,
      );
      expect(found.getRowObjectsJson()).toEqual([
        { name: "=1.2.3", count: 60 },
        { name: null, count: 60 },
      ]);
      const told = await connection.runAndReadAll(
        `select decode(value) as value from parquet_kv_metadata('${file}') where decode(key) = 'pql.covers'`,
      );
      expect(told.getRowObjectsJson()).toEqual([{ value: parquet.headers.get("pql-covers") }]);
    } finally {
      connection.closeSync();
    }
  });

  test.each(["image/png", "application/json;q=0, text/html", "*/*;q=0"])(
    "%s is refused with the list of what there is, before anything is asked",
    async (accept) => {
      const refused = await ask("FIND nonsense", accept);
      expect(refused.status).toBe(406);
      expect(refused.headers.get("content-type")).toBe("application/problem+json");
      expect(refused.json).toMatchObject({ code: "not_acceptable", available: [...pqlFormats] });
    },
  );

  test("does not hold for problems, which are problem documents in any case", async () => {
    const refused = await ask("FIND events WHERE", "text/csv");
    expect([refused.status, refused.headers.get("content-type")]).toEqual([400, "application/problem+json"]);
    expect(refused.json).toMatchObject({ code: "pql_invalid", line: 1 });
  });

  test("is declared in the contract, all four of them", () => {
    const { content } = api.document.paths["/api/pql"]!["post"]!.responses["200"]!;
    expect(Object.keys(content ?? {})).toEqual([...pqlFormats]);
  });
});

describe("maestro pql", () => {
  test("runs the command lines of the language's page, and all pages of a query are one file", async () => {
    const page = readFileSync(new URL("../../docs/pql/LANGUAGE.md", import.meta.url), "utf8");
    const lines = /^```sh\n([^]*?)\n```$/m.exec(page)![1]!.split("\n");
    expect(lines.length).toBeGreaterThan(3);
    const host = testHost({ env: { MAESTRO_API_URL: stack.apiUrl, MAESTRO_API_KEY: tenant.keys.auditor } });
    for (const line of lines) {
      const [program, ...words] = Array.from(line.matchAll(/'([^']*)'|\S+/g), ([word, quoted]) => quoted ?? word);
      expect(program).toBe("maestro");
      expect([line, await maestro(host, ...words)]).toEqual([line, expect.objectContaining({ code: 0 })]);
    }
    const out = ["--all", "--format", "csv", "--out", "all.csv"];
    expect((await maestro(host, "pql", rowsQuery, ...out)).code).toBe(0);
    const whole = readFileSync(join(host.home, "all.csv"), "utf8").trimEnd().split("\r\n");
    expect([whole.length, new Set(whole).size]).toEqual([121, 121]);
  });
});

describe("with the flag pql_v1_2 off", () => {
  const flag = async (enabled: boolean): Promise<void> => {
    const change = jsonCall(tenant.keys.admin, "PUT", { flag: "pql_v1_2", enabled });
    must(200, await api.fetch("/api/flags", change));
  };
  /** An isolate remembers the flag for five seconds. */
  const settled = { timeout: 10_000, interval: 200 };

  test("BUCKET BY and TOP are refused at their place within five seconds, FIND, WHERE and SINCE stay; on again, all is there", async () => {
    must(200, await ask(countsQuery, null));
    await flag(false);
    try {
      await expect.poll(async () => (await ask(countsQuery, null)).status, settled).toBe(400);
      expect((await ask(countsQuery, null)).json).toMatchObject({
        code: "pql_invalid",
        line: 1,
        column: 19,
        detail: "BUCKET BY is PQL 1.2, and the flag pql_v1_2 is off for this tenant.",
        suggestion: expect.stringContaining("FIND, WHERE and SINCE"),
      });
      expect((await ask("FIND events\nTOP 3 BY type", "text/csv")).json).toMatchObject({ line: 2, column: 1 });
      must(200, await ask(`FIND entitlements WHERE package = "tools/a" SINCE 1h`, null));
      const neighbour = await stack.seedTenant("pql-formats-neighbour");
      must(200, await api.fetch("/api/pql", jsonCall(neighbour.keys.auditor, "POST", { query: countsQuery })));
    } finally {
      await flag(true);
    }
    await expect.poll(async () => (await ask(countsQuery, null)).status, settled).toBe(200);
  });
});
