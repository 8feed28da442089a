// `maestro pql QUERY`: formats, charts, all pages, and options that do not go together. A server behind it.

import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { parquetMetadata } from "hyparquet";
import { describe, expect, test } from "vitest";
import type { PqlExplanation, PricedAnswer } from "../../shared/contract/http-pql.ts";
import { maestro, testHost } from "../testing/host.ts";
import { apiKey } from "../testing/market.ts";
import { json, problem, testServer, type Answer } from "../testing/server.ts";

const price = { rows: 927, limit: 1_000_000 };
const covers = { from: "2026-04-13T16:00:00.000Z", to: "2026-04-13T17:00:00.000Z" };
const start = (at: number): string => new Date(Date.UTC(2026, 3, 13, 16) + at * 300_000).toISOString();
const counts: PricedAnswer = {
  kind: "groups",
  covers,
  price,
  complete_to: "2026-04-13T16:59:59.123Z",
  field: "package",
  bucket_ms: 300_000,
  groups: [
    { name: "tools/a", total: 36 },
    { name: null, total: 1 },
  ],
  other: 8,
  total: 45,
  buckets: Array.from({ length: 9 }, (_, at) => ({
    start: start(at),
    partial: at === 8,
    counts: [at, at === 0 ? 1 : 0],
    other: at === 4 ? 8 : 0,
  })),
};
const page = (from: number, cursor: string | null): PricedAnswer => ({
  kind: "rows",
  covers,
  price,
  complete_to: "2026-04-13T16:59:59.123Z",
  columns: ["seq", "package"],
  rows: [0, 1].map((at) => ({ seq: from + at, package: at === 0 ? "tools/a" : null })),
  next_cursor: cursor,
});

async function world(answers: readonly Answer[], given: { terminal?: boolean; env?: Record<string, string> } = {}) {
  const server = await testServer();
  let at = 0;
  server.on("POST /api/pql", (request, response) => answers[Math.min(at++, answers.length - 1)]!(request, response));
  const env = { MAESTRO_API_URL: server.url, MAESTRO_API_KEY: apiKey, NO_COLOR: "1", ...given.env };
  const host = testHost({ terminal: given.terminal === true, env });
  const cursors = (): unknown[] =>
    server.seen.map(({ body }) => (JSON.parse(body.toString()) as { cursor?: string }).cursor ?? null);
  return { server, host, cursors };
}

describe("counts in buckets", () => {
  const utf8 = { LANG: "C.UTF-8" };

  test("are a sparkline a group on a terminal, aligned, each on its own scale", async () => {
    const { host } = await world([json(counts)], { terminal: true, env: utf8 });
    const { code, out } = await maestro(host, "pql", "FIND decisions BUCKET BY 5m TOP 2 BY package");
    expect(code).toBe(0);
    expect(out.split("\n").slice(0, 6)).toEqual([
      "package  total  peak  counts",
      "tools/a     36     8  ·▁▂▃▄▅▆▇█",
      "(none)       1     1  █········",
      "(other)      8     8  ····█····",
      "(total)     45    12  ▁▁▂▂█▄▄▅▆",
      "each mark is 5m, the last is partial; each line has its own scale",
    ]);
  });

  test("are ASCII where the terminal has no UTF-8, or is dumb", async () => {
    for (const env of [{ LANG: "C" }, { LANG: "C.UTF-8", TERM: "dumb" }]) {
      const { host } = await world([json(counts)], { terminal: true, env });
      const { out } = await maestro(host, "pql", "FIND decisions BUCKET BY 5m TOP 2 BY package");
      expect(out).toContain("tools/a     36     8  .12345678");
      expect(out).toMatch(/^[\n\u0020-\u007E]*$/);
    }
  });

  test("are added up where the terminal is too narrow", async () => {
    const { host } = await world([json(counts)], { terminal: true, env: utf8 });
    Object.assign(host.stdout, { columns: 30 });
    const { out } = await maestro(host, "pql", "FIND decisions BUCKET BY 5m TOP 2 BY package");
    for (const line of out.split("\n").slice(0, 5)) expect(line.length).toBeLessThanOrEqual(34);
    const long = { ...counts, buckets: Array.from({ length: 60 }, () => counts.buckets![1]!) };
    const wide = await world([json(long)], { terminal: true, env: utf8 });
    Object.assign(wide.host.stdout, { columns: 50 });
    const drawn = await maestro(wide.host, "pql", "FIND decisions BUCKET BY 5m TOP 2 BY package");
    expect(drawn.out).toContain("each mark is 3 buckets of 5m;");
    for (const line of drawn.out.split("\n").slice(0, 5)) expect(line.length).toBeLessThanOrEqual(50);
  });

  test("are bars where they are asked for, and a table where nothing is to be drawn", async () => {
    const { host } = await world([json(counts)], { terminal: true, env: utf8 });
    const bars = await maestro(host, "pql", "FIND decisions BUCKET BY 5m", "--chart", "bars");
    const [first, second] = bars.out.split("\n").filter((line) => line.includes("█"));
    expect(bars.out).toMatch(/16:40:00.000Z {6}8 {2}█+\S? +partial/);
    expect([first, second].every((line) => line!.length <= 80)).toBe(true);
    const none = await maestro(host, "pql", "FIND decisions BUCKET BY 5m", "--chart", "none");
    expect(none.out).toContain(`${start(4)}        4       0        8`);
    expect(none.out).not.toMatch(/[▁█]/);
    const groups = await world([json({ ...counts, bucket_ms: null, buckets: null })], { terminal: true, env: utf8 });
    const top = await maestro(groups.host, "pql", "FIND decisions TOP 2 BY package", "--chart", "bars");
    expect(top.out).toMatch(/tools\/a {5}36 {2}█{30,}/);
    const total = await maestro(groups.host, "pql", "FIND decisions TOP 2 BY package");
    expect(total.out).toMatch(/\(total\) +45/);
  });
});

describe("a format", () => {
  test("CSV and NDJSON are the API's own, on stdout, with the next page on stderr", async () => {
    const { host } = await world([json(page(1, "c2"))]);
    const csv = await maestro(host, "pql", "FIND events", "--format", "csv");
    expect([csv.out, csv.err]).toEqual(["seq,package\r\n1,tools/a\r\n2,\r\n", "more: add --cursor c2\n"]);
    const ndjson = await maestro(host, "pql", "FIND events", "--format", "ndjson");
    expect(ndjson.out).toBe('{"seq":1,"package":"tools/a"}\n{"seq":2,"package":null}\n');
    const asJson = await maestro(host, "pql", "FIND events", "--format", "json");
    expect(asJson.json()).toEqual(page(1, "c2"));
  });

  test("on a terminal holds nothing that would steer it, and is byte for byte in a pipe", async () => {
    const evil = { ...page(1, null), rows: [{ seq: 1, package: "a\u009b2Jb\u202e" }] };
    for (const format of ["csv", "ndjson", "json", "table"]) {
      const { host } = await world([json(evil)], { terminal: true });
      const { out } = await maestro(host, "pql", "FIND events", "--format", format);
      expect(out).toContain("a\\u{9b}2Jb\\u{202e}");
    }
    const steering = "\u001b]0;title\u0007\u009b2J";
    const named = [
      { ...page(1, `c;$(id)${steering}`), columns: [`seq${steering}`] },
      { ...counts, field: steering, groups: counts.groups.map(({ total }) => ({ name: steering, total })) },
    ];
    for (const answer of named) {
      for (const chart of [[], ["--chart", "none"], ["--chart", "bars"]]) {
        const { host } = await world([json(answer)], { terminal: true });
        const { out, err } = await maestro(host, "pql", "FIND events", ...chart);
        // oxlint-disable-next-line no-control-regex
        expect(out + err).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/);
        expect(out).toContain("\\u{1b}]0;title");
        expect(err).toContain(answer.kind === "rows" ? "add --cursor 'c;$(id)" : "");
      }
    }
    const piped = await world([json(evil)]);
    expect((await maestro(piped.host, "pql", "FIND events", "--format", "csv")).out).toContain("a\u009b2Jb\u202e");
  });

  test("Parquet goes into a file, for this user alone, and never to a terminal", async () => {
    const { host } = await world([json(counts)], { terminal: true });
    const refused = await maestro(host, "pql", "FIND events BUCKET BY 5m", "--format", "parquet");
    expect([refused.code, refused.out]).toEqual([2, ""]);
    expect(refused.err).toContain("--out FILE");
    const written = await maestro(host, "pql", "FIND events BUCKET BY 5m", "--format", "parquet", "--out", "c.parquet");
    expect([written.code, written.out]).toEqual([0, ""]);
    const file = join(host.home, "c.parquet");
    expect(statSync(file).mode & 0o777).toBe(0o600);
    const bytes = readFileSync(file);
    const metadata = parquetMetadata(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length));
    expect(metadata.num_rows).toBe(27n);
    expect(metadata.key_value_metadata).toContainEqual({ key: "pql.covers", value: `${covers.from}/${covers.to}` });
  });

  test("is refused where it does not go with the rest", async () => {
    const { host, server } = await world([json(counts)]);
    for (const argv of [
      ["--json", "--format", "csv"],
      ["--out", "x.txt"],
      ["--explain", "--format", "csv"],
      ["--explain", "--all"],
      ["--format", "xml"],
      ["--chart", "pie"],
    ]) {
      expect((await maestro(host, "pql", "FIND events", ...argv)).code).toBe(2);
    }
    expect((await maestro(host, "pql", "--all")).code).toBe(2);
    expect(server.seen).toEqual([]);
  });
});

describe("--all", () => {
  test("follows the cursor to the end, one header, whatever the format", async () => {
    const answers = [json(page(1, "c2")), json(page(3, "c3")), json(page(5, null))];
    const csv = await world(answers);
    const { code, out, err } = await maestro(csv.host, "pql", "FIND events", "--all", "--format", "csv");
    expect([code, err]).toEqual([0, ""]);
    expect(out).toBe("seq,package\r\n1,tools/a\r\n2,\r\n3,tools/a\r\n4,\r\n5,tools/a\r\n6,\r\n");
    expect(csv.cursors()).toEqual([null, "c2", "c3"]);
    const asJson = await world(answers);
    const whole = (await maestro(asJson.host, "pql", "FIND events", "--all", "--json")).json();
    expect(whole).toMatchObject({ kind: "rows", covers, next_cursor: null });
    expect((whole["rows"] as unknown[]).length).toBe(6);
    const file = await world(answers);
    const written = await maestro(file.host, "pql", "FIND events", "--all", "--format", "ndjson", "--out", "e.ndjson");
    expect(written.err).toContain("e.ndjson: 6 rows");
    expect(readFileSync(join(file.host.home, "e.ndjson"), "utf8").trim().split("\n")).toHaveLength(6);
  });

  test("interrupted or refused, keeps the pages that came and tells where to go on", async () => {
    for (const format of ["csv", "ndjson", "json", "table"]) {
      const failing = await world([json(page(1, "c2")), problem(500, { code: "internal", title: "Something broke" })]);
      const { code, out, err } = await maestro(failing.host, "pql", "FIND events", "--all", "--format", format);
      expect([code, out.includes("tools/a")]).toEqual([1, true]);
      expect(err).toContain("ended after 2 rows; to go on: add --cursor c2\n");
    }
    const interrupted = await world([
      json(page(1, "c2")),
      () => {
        interrupted.host.interrupt();
      },
    ]);
    const ended = await maestro(interrupted.host, "pql", "FIND events", "--all", "--format", "csv", "--out", "e.csv");
    expect(ended.code).toBe(130);
    expect(ended.err).toContain("to go on: add --cursor c2");
    expect(readFileSync(join(interrupted.host.home, "e.csv"), "utf8")).toBe("seq,package\r\n1,tools/a\r\n2,\r\n");
  });

  test("waits where the budget is spent, as long as the API asks", async () => {
    const busy = problem(429, { code: "rate_limited", title: "Wait" }, { "retry-after": "7" });
    const { host, cursors } = await world([json(page(1, "c2")), busy, busy, json(page(3, null))]);
    const { code, out } = await maestro(host, "pql", "FIND events", "--all", "--format", "ndjson");
    expect([code, out.trim().split("\n").length]).toEqual([0, 4]);
    expect(host.slept).toEqual([7_000, 7_000]);
    expect(cursors()).toEqual([null, "c2", "c2", "c2"]);
  });

  test("writes no file where not even the first page came", async () => {
    const { host } = await world([problem(400, { code: "pql_invalid", title: "No", line: 1, column: 1 })]);
    const { code, err } = await maestro(host, "pql", "nonsense", "--all", "--format", "csv", "--out", "e.csv");
    expect([code, existsSync(join(host.home, "e.csv"))]).toEqual([2, false]);
    expect(err).toContain("  nonsense\n  ^\n");
  });

  test("of counts is one answer", async () => {
    const { host, server } = await world([json(counts)]);
    const { code } = await maestro(host, "pql", "FIND events BUCKET BY 5m", "--all", "--format", "csv");
    expect([code, server.seen.length]).toEqual([0, 1]);
  });
});

const explanation: PqlExplanation = {
  kind: "explain",
  covers: { from: "2026-04-12T16:00:00.000Z", to: "2026-04-13T16:00:00.000Z" },
  complete_to: null,
  template: "rows",
  words: ["Rows, newest first, 100 a page.", "It reads at most 927 rows; one question may read 1000000."],
  reads: { totals: [], series: [] },
  cells: null,
  price: { rows: 927, limit: 1_000_000 },
  verdict: "admitted",
  retry_after_ms: null,
  changes: [],
};

test("--explain asks for the price alone, and says it in the API's sentences", async () => {
  const { host, server } = await world([json(explanation)]);
  const { out } = await maestro(host, "pql", "FIND events", "--explain");
  expect(JSON.parse(server.seen[0]!.body.toString())).toEqual({ query: "FIND events", explain: true });
  expect(out.trim().split("\n")).toEqual([
    ...explanation.words,
    `covers ${explanation.covers.from} to ${explanation.covers.to}`,
  ]);
  expect((await maestro(host, "pql", "FIND events", "--explain", "--json")).json()).toEqual(explanation);
});
