// An answer in other formats: the same values, as readers that are not ours see them.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DuckDBInstance, type DuckDBConnection } from "@duckdb/node-api";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { PqlAnswer } from "../contract/http-pql.ts";
import { rowColumns } from "./answer.ts";
import { tableOf, type AnswerTable, type Cell } from "./answer-table.ts";
import { headerOf, inFormat, pqlFormats } from "./formats.ts";

let folder: string;
let connection: DuckDBConnection;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "maestro-formats-"));
  connection = await (await DuckDBInstance.create(":memory:")).connect();
  await connection.run("set timezone = 'UTC'");
});
afterAll(() => {
  connection.closeSync();
  rmSync(folder, { recursive: true });
});

let files = 0;
/** Asks a body as a file; `FILE` in the query is its name. */
async function duck(body: unknown, query: string): Promise<Record<string, unknown>[]> {
  const file = join(folder, `answer-${(files += 1)}`);
  writeFileSync(file, body as string | Uint8Array);
  return (await connection.runAndReadAll(query.replaceAll("FILE", `'${file}'`))).getRowObjectsJson();
}

const covers = { from: "2026-04-13T00:00:00.000Z", to: "2026-04-13T02:30:00.000Z" };
const counts: PqlAnswer = {
  kind: "groups",
  covers,
  complete_to: "2026-04-13T02:29:59.123Z",
  field: "package",
  bucket_ms: 3_600_000,
  groups: [
    { name: "tools/a", total: 7 },
    { name: null, total: 3 },
    { name: "other", total: 2 },
  ],
  other: 4,
  total: 16,
  buckets: [
    { start: "2026-04-13T00:00:00.000Z", partial: false, counts: [4, 0, 2], other: 1 },
    { start: "2026-04-13T01:00:00.000Z", partial: false, counts: [3, 2, 0], other: 3 },
    { start: "2026-04-13T02:00:00.000Z", partial: true, counts: [0, 1, 0], other: 0 },
  ],
};
const words = [
  "a",
  "",
  "=1+1",
  "'",
  "'=x",
  "+1",
  "-1",
  "@x",
  "a,b",
  'a"b',
  "a\r\nb",
  "\t",
  " a ",
  "é",
  "NULL",
  "ＷＷ",
  "＝1",
  "𝄞",
];
const rowOf = (at: number): Record<string, Cell> => ({
  ...Object.fromEntries(rowColumns.map((name) => [name, words[at % words.length]!])),
  logged_at: new Date(Date.UTC(2026, 3, 13) + at).toISOString(),
  occurred_at: "1969-12-31T23:59:59.999Z",
  seq: at,
  units: at % 2 === 0 ? null : Number.MAX_SAFE_INTEGER,
  duration_ms: at % 3 === 0 ? null : 0,
  rule: null,
  attrs: `{"exit_code":${at}}`,
});
const rows: PqlAnswer = {
  kind: "rows",
  covers,
  complete_to: null,
  columns: [...rowColumns],
  rows: words.map((_, at) => rowOf(at)),
  next_cursor: "YWJj+/==",
};

const textIn = (format: "text/csv" | "application/x-ndjson", answer: PqlAnswer): string => {
  const { body } = inFormat(format, answer);
  if (typeof body !== "string") throw new TypeError("a text was asked for");
  return body;
};

/** A record as a strict reader of RFC 4180 takes it apart; null for an empty cell without quotes. */
function parsedCsv(text: string): (string | null)[][] {
  const records: (string | null)[][] = [];
  const cell = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n)/y;
  let record: (string | null)[] = [];
  while (cell.lastIndex < text.length) {
    const [, quoted, plain, end] = cell.exec(text)!;
    record.push(quoted === undefined ? (plain === "" ? null : plain!) : quoted.replaceAll('""', '"'));
    if (end === ",") continue;
    records.push(record);
    record = [];
  }
  return records;
}
const unguarded = (text: string | null): string | null =>
  text !== null && text.startsWith("'") && text.length > 1 ? text.slice(1) : text;
const asTexts = ({ rows: cells }: AnswerTable): (string | null)[][] =>
  cells.map((row) => row.map((cell) => (cell === null ? null : String(cell))));

describe("counts", () => {
  test("are a line for each bucket and group, with what is left over told from a group of that name", () => {
    const { columns, rows: lines } = tableOf(counts);
    expect(columns.map(({ name }) => name)).toEqual(["kind", "bucket_start", "partial", "name", "count"]);
    expect(lines.slice(0, 4)).toEqual([
      ["group", "2026-04-13T00:00:00.000Z", false, "tools/a", 4],
      ["group", "2026-04-13T00:00:00.000Z", false, null, 0],
      ["group", "2026-04-13T00:00:00.000Z", false, "other", 2],
      ["other", "2026-04-13T00:00:00.000Z", false, null, 1],
    ]);
    expect(lines.at(-1)).toEqual(["other", "2026-04-13T02:00:00.000Z", true, null, 0]);
    expect(lines.reduce((sum, line) => sum + Number(line[4]), 0)).toBe(counts.total);
  });

  test("without buckets have none, and without TOP are `all`", () => {
    expect(tableOf({ ...counts, bucket_ms: null, buckets: null }).rows).toEqual([
      ["group", null, null, "tools/a", 7],
      ["group", null, null, null, 3],
      ["group", null, null, "other", 2],
      ["other", null, null, null, 4],
    ]);
    const buckets = [{ start: covers.from, partial: true, counts: [], other: 16 }];
    expect(tableOf({ ...counts, field: null, groups: [], other: 16, buckets }).rows).toEqual([
      ["all", covers.from, true, null, 16],
    ]);
  });
});

describe.each(pqlFormats.filter((format) => format !== "application/json"))("as %s", (format) => {
  test("says of itself in headers what its rows do not, and nothing that is null", () => {
    const { "content-type": type, ...told } = inFormat(format, counts).headers;
    expect(type?.startsWith(format)).toBe(true);
    expect(told).toEqual({
      "PQL-Covers": "2026-04-13T00:00:00.000Z/2026-04-13T02:30:00.000Z",
      "PQL-Complete-To": "2026-04-13T02:29:59.123Z",
      "PQL-Field": "package",
      "PQL-Bucket-Ms": "3600000",
    });
    expect(inFormat(format, rows).headers).toMatchObject({ "PQL-Next-Cursor": "YWJj+/==" });
    expect(inFormat(format, rows).headers).not.toHaveProperty("PQL-Complete-To");
  });

  test("tells further members in visible ASCII, whatever they hold", () => {
    const more = { ...counts, price: { rows: 12, advice: "é\n" } } as PqlAnswer;
    expect(inFormat(format, more).headers["PQL-Price"]).toBe(String.raw`{"rows":12,"advice":"\u00e9\n"}`);
    const advice = { ...counts, advice: "a\r\nSet-Cookie: x" } as PqlAnswer;
    expect(inFormat(format, advice).headers["PQL-Advice"]).toBe(String.raw`a\u000d\u000aSet-Cookie: x`);
    expect(headerOf("complete_to")).toBe("PQL-Complete-To");
  });
});

test("JSON is the answer itself", () => {
  expect(inFormat("application/json", rows)).toEqual({ body: rows, headers: {} });
});

test("NDJSON has an object a line, with the values of the answer", () => {
  const lines = textIn("application/x-ndjson", rows).split("\n");
  expect(lines.pop()).toBe("");
  expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual(rows.rows);
  expect(inFormat("application/x-ndjson", { ...rows, rows: [] }).body).toBe("");
});

describe("CSV", () => {
  test("follows RFC 4180, and no cell begins as a formula", () => {
    const body = textIn("text/csv", rows);
    const [header, ...records] = parsedCsv(body);
    expect(header).toEqual([...rowColumns]);
    expect(records.map((record) => record.map(unguarded))).toEqual(asTexts(tableOf(rows)));
    for (const record of records) for (const text of record) expect(text ?? "").not.toMatch(/^[=+\-@\t\r\n＝＋－＠]/);
    expect(body.replaceAll("\r\n", "").replaceAll(/"[^"]*"/g, "")).not.toMatch(/[\r\n]/);
  });

  test("gives back any text, once the apostrophe is taken off", () => {
    const text = fc.string({ unit: fc.constantFrom("=", "+", "-", "@", "'", '"', ",", "\r", "\n", "\t", "a", "é") });
    fc.assert(
      fc.property(fc.array(fc.option(text)), (names) => {
        const answer = { ...counts, buckets: null, groups: names.map((name) => ({ name, total: 1 })) };
        const [, ...records] = parsedCsv(textIn("text/csv", answer));
        expect(records.map((record) => record.map(unguarded))).toEqual(asTexts(tableOf(answer)));
      }),
    );
  });

  test("is read by DuckDB as it was written, nulls and empty texts apart", async () => {
    const read = "select * from read_csv(FILE, header = true, all_varchar = true, allow_quoted_nulls = false)";
    const found = await duck(inFormat("text/csv", rows).body, read);
    expect(found.map((row) => rowColumns.map((name) => unguarded(row[name] as string | null)))).toEqual(
      asTexts(tableOf(rows)),
    );
    const sums = "select kind, sum(count)::int as sum from read_csv(FILE) group by kind order by kind";
    expect(await duck(inFormat("text/csv", counts).body, sums)).toEqual([
      { kind: "group", sum: 12 },
      { kind: "other", sum: 4 },
    ]);
  });
});

describe("Parquet", () => {
  const parquet = "application/vnd.apache.parquet";

  test("has typed columns and the very values, in DuckDB", async () => {
    const { body } = inFormat(parquet, rows);
    const described = await duck(body, "describe select * from read_parquet(FILE)");
    const typeOf = (name: string): string =>
      ["logged_at", "occurred_at"].includes(name)
        ? "TIMESTAMP WITH TIME ZONE"
        : ["seq", "units", "duration_ms"].includes(name)
          ? "BIGINT"
          : "VARCHAR";
    expect(described.map((row) => [row["column_name"], row["column_type"]])).toEqual(
      rowColumns.map((name) => [name, typeOf(name)]),
    );
    const iso = (name: string): string => `strftime(${name}, '%Y-%m-%dT%H:%M:%S.%gZ') as ${name}`;
    const found = await duck(
      body,
      `select * replace (${iso("logged_at")}, ${iso("occurred_at")}) from read_parquet(FILE) order by seq`,
    );
    expect(found.map((row) => rowColumns.map((name) => row[name]))).toEqual(asTexts(tableOf(rows)));
  });

  test("holds counts with their buckets, and adds up", async () => {
    const { body } = inFormat(parquet, counts);
    const found = await duck(
      body,
      "select kind, name, epoch_ms(bucket_start)::bigint as start, partial, count from read_parquet(FILE) where kind = 'other'",
    );
    expect(found).toEqual(
      counts.buckets!.map(({ start, partial, other }) => ({
        kind: "other",
        name: null,
        start: String(Date.parse(start)),
        partial,
        count: String(other),
      })),
    );
  });

  test("tells in its metadata what the headers tell", async () => {
    const pairs = await duck(
      inFormat(parquet, counts).body,
      "select decode(key) as key, decode(value) as value from parquet_kv_metadata(FILE)",
    );
    expect(pairs).toEqual([
      { key: "pql.covers", value: "2026-04-13T00:00:00.000Z/2026-04-13T02:30:00.000Z" },
      { key: "pql.complete_to", value: "2026-04-13T02:29:59.123Z" },
      { key: "pql.field", value: "package" },
      { key: "pql.bucket_ms", value: "3600000" },
    ]);
  });

  test("is a file with its columns also where nothing was found", async () => {
    const { body } = inFormat(parquet, { ...rows, rows: [] });
    expect(await duck(body, "select count(*)::int as rows from read_parquet(FILE)")).toEqual([{ rows: 0 }]);
  });

  test("has the same bytes for the same answer", () => {
    expect(inFormat(parquet, counts).body).toEqual(inFormat(parquet, structuredClone(counts)).body);
  });
});
