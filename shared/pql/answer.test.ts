import { expect, test } from "vitest";
import { groupsAnswer, parseCursor, rowColumns, rowsAnswer } from "./answer.ts";
import { parsePql } from "./parse.ts";
import { planQuery, type Plan } from "./plan.ts";

const now = Date.UTC(2026, 3, 13, 16, 20);
function plan<Name extends Plan["template"]>(text: string, template: Name): Extract<Plan, { template: Name }> {
  const made = planQuery(parsePql(text), text, now);
  if (made.template !== template) throw new Error(`${made.template} is not ${template}`);
  return made as Extract<Plan, { template: Name }>;
}

test("gaps are zeros, totals add up both ways, and the last bucket alone is partial", () => {
  const groups = [
    { rank: 2, name: null, counts: [0, 4] },
    { rank: null, name: null, counts: [1, 0, 2] },
    { rank: 1, name: "tools/a", counts: [3, 0, 7] },
  ] as const;
  const seriesPlan = plan("FIND events BUCKET BY 1h TOP 2 BY package SINCE 2h", "top_buckets");
  const answer = groupsAnswer(seriesPlan, groups, now - 2);
  expect(answer).toEqual({
    kind: "groups",
    covers: { from: "2026-04-13T14:00:00.000Z", to: "2026-04-13T16:20:00.000Z" },
    complete_to: "2026-04-13T16:19:59.998Z",
    field: "package",
    bucket_ms: 3_600_000,
    groups: [
      { name: "tools/a", total: 10 },
      { name: null, total: 4 },
    ],
    other: 3,
    total: 17,
    buckets: [
      { start: "2026-04-13T14:00:00.000Z", partial: false, counts: [3, 0], other: 1 },
      { start: "2026-04-13T15:00:00.000Z", partial: false, counts: [0, 4], other: 0 },
      { start: "2026-04-13T16:00:00.000Z", partial: true, counts: [7, 0], other: 2 },
    ],
  });
});

test("each bucket begins when it does, whatever the day and the bucket", () => {
  for (const [bucket, since] of [
    ["1m", "26h"],
    ["5m", "3d"],
    ["1h", "40d"],
    ["1d", "400d"],
  ] as const) {
    const seriesPlan = plan(`FIND events BUCKET BY ${bucket} SINCE ${since}`, "buckets");
    const starts = groupsAnswer(seriesPlan, [], null).buckets!.map(({ start }) => start);
    expect(starts).toEqual(starts.map((_, at) => new Date(seriesPlan.from + at * seriesPlan.bucket_ms).toISOString()));
  }
});

test("nothing found is an answer too: every bucket, all zero", () => {
  const answer = groupsAnswer(plan("FIND events BUCKET BY 1h SINCE 1h", "buckets"), [], null);
  expect(answer).toMatchObject({ complete_to: null, field: null, groups: [], other: 0, total: 0 });
  expect(answer.buckets?.map(({ other }) => other)).toEqual([0, 0]);
  expect(groupsAnswer(plan("FIND events TOP 5 BY rule", "top"), [], null)).toMatchObject({
    groups: [],
    buckets: null,
    total: 0,
  });
});

const row = (seq: number): Record<string, unknown> => ({
  ...Object.fromEntries(rowColumns.map((name) => [name, null])),
  logged_at: "2026-04-13T16:00:00.123Z",
  seq: String(seq),
  units: "3",
});

test("a page has a cursor where there is a next page: the query, what was said of its range, and the last row", () => {
  const rows = plan("FIND events", "rows");
  const page = rowsAnswer(rows, [row(9), row(8), row(7)], now - 5, 2, "d1");
  expect(page.rows.map(({ seq, units, rule }) => [seq, units, rule])).toEqual([
    [9, 3, null],
    [8, 3, null],
  ]);
  expect(parseCursor(page.next_cursor!)).toEqual({
    query_digest: "d1",
    to: now,
    complete_to: now - 5,
    before: { logged_at: Date.parse("2026-04-13T16:00:00.123Z"), seq: 8 },
  });
  expect(rowsAnswer(rows, [row(9), row(8)], now, 2, "d1").next_cursor).toBeNull();
  expect(rowsAnswer(rows, [], null, 2, "d1")).toMatchObject({ rows: [], complete_to: null, next_cursor: null });
});

test("numbers in a cursor are those that it was written with, in one spelling", () => {
  const numbers = ["1", "2", "3", "4"];
  const withOne = (at: number, number: string): string => btoa(`["d",${numbers.with(at, number).join(",")}]`);
  expect(parseCursor(withOne(0, "1"))).toEqual({
    query_digest: "d",
    to: 1,
    complete_to: 2,
    before: { logged_at: 3, seq: 4 },
  });
  const odd = ["-1", "-0", "0.5", "1.0", "1e2", "1e99", "253402300800000", '"1"', "true", "[1]", "{}", " 1"];
  for (const at of numbers.keys()) {
    for (const number of odd) expect([at, number, parseCursor(withOne(at, number))]).toEqual([at, number, null]);
    expect(parseCursor(withOne(at, "null"))?.complete_to).toBe(at === 1 ? null : undefined);
  }
});

test.each([
  "",
  "x",
  "bm90IGpzb24=",
  btoa("[]"),
  btoa('["a",1,2,3]'),
  btoa('["a",1,2,3,4,5]'),
  btoa("[1,1,2,3,4]"),
  btoa('["a",1,2,3,4] '),
  btoa('["\\u0061",1,2,3,4]'),
  btoa("{}"),
  btoa("null"),
])("%s is not a cursor", (text) => {
  expect(parseCursor(text)).toBeNull();
});
