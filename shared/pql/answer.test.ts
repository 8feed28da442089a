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
  const answer = groupsAnswer(plan("FIND events BUCKET BY 1h TOP 2 BY package SINCE 2h", "top_buckets"), [
    { rank: 2, name: null, cells: [[1, 4]] },
    { rank: null, name: null, cells: [[0, 1], [2, 2]] }, // prettier-ignore
    { rank: 1, name: "tools/a", cells: [[0, 3], [2, 7]] }, // prettier-ignore
  ]);
  expect(answer).toEqual({
    kind: "groups",
    covers: { from: "2026-04-13T14:00:00.000Z", to: "2026-04-13T16:20:00.000Z" },
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

test("nothing found is an answer too: every bucket, all zero", () => {
  const answer = groupsAnswer(plan("FIND events BUCKET BY 1h SINCE 1h", "buckets"), []);
  expect(answer).toMatchObject({ field: null, groups: [], other: 0, total: 0 });
  expect(answer.buckets?.map(({ other }) => other)).toEqual([0, 0]);
  expect(groupsAnswer(plan("FIND events TOP 5 BY rule", "top"), [])).toMatchObject({
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

test("a page has a cursor where there is a next page, and it names the last row, the range's end and the query", () => {
  const rows = plan("FIND events", "rows");
  const page = rowsAnswer(rows, [row(9), row(8), row(7)], 2, "d1");
  expect(page.rows.map(({ seq, units, rule }) => [seq, units, rule])).toEqual([
    [9, 3, null],
    [8, 3, null],
  ]);
  expect(parseCursor(page.next_cursor!)).toEqual({
    query_digest: "d1",
    to: now,
    before: { logged_at: Date.parse("2026-04-13T16:00:00.123Z"), seq: 8 },
  });
  expect(rowsAnswer(rows, [row(9), row(8)], 2, "d1").next_cursor).toBeNull();
  expect(rowsAnswer(rows, [], 2, "d1")).toMatchObject({ rows: [], next_cursor: null });
});

test.each([
  "",
  "x",
  "bm90IGpzb24=",
  btoa("[]"),
  btoa('["a",1,2]'),
  btoa('["a",1,2,-3]'),
  btoa('["a",1e99,2,3]'),
  btoa("{}"),
  btoa("null"),
])("%s is not a cursor", (text) => {
  expect(parseCursor(text)).toBeNull();
});
