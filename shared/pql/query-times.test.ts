// The histogram of questions counts each once, in Prometheus' own terms, and outlives its object.

import { expect, test } from "vitest";
import { openSql } from "../../test/support/sqlite.ts";
import { Problem } from "../contract/problems.ts";
import { PqlError } from "./pql-error.ts";
import { outcomeOf, QueryTimes, queryTimesMax } from "./query-times.ts";

test("buckets are cumulative, the last one is every question, and a reopened object goes on", () => {
  const sql = openSql(":memory:");
  new QueryTimes(sql).observe([
    { template: "top", outcome: "ok", ms: 3 },
    { template: "top", outcome: "ok", ms: 5 },
    { template: "none", outcome: "invalid", ms: 0 },
  ]);
  const times = new QueryTimes(sql);
  times.observe([{ template: "top", outcome: "ok", ms: 60_000 }]);
  const lines = times.text().split("\n");
  expect(lines.slice(0, 2)).toEqual([
    "# HELP mc_pql12_query_ms From a PQL request to its answer, by template and outcome.",
    "# TYPE mc_pql12_query_ms histogram",
  ]);
  const of = (part: string): string[] => lines.filter((line) => line.includes('template="top"') && line.includes(part));
  expect(of("_bucket").map((line) => /le="([^"]+)"\} (\d+)/.exec(line)!.slice(1))).toEqual([
    ["1", "0"], ["2", "0"], ["5", "2"], ["10", "2"], ["15", "2"], ["25", "2"], ["50", "2"], ["100", "2"], ["250", "2"],
    ["500", "2"], ["1000", "2"], ["2500", "2"], ["5000", "2"], ["+Inf", "3"],
  ]); // prettier-ignore
  expect([...of("_sum"), ...of("_count")]).toEqual([
    'mc_pql12_query_ms_sum{template="top",outcome="ok"} 60008',
    'mc_pql12_query_ms_count{template="top",outcome="ok"} 3',
  ]);
  expect(lines).toContain('mc_pql12_query_ms_bucket{template="none",outcome="invalid",le="1"} 1');
});

test("nothing but the heading where nothing was asked", () => {
  expect(new QueryTimes(openSql(":memory:")).text().split("\n")).toHaveLength(3);
});

test("more at once than one call takes are refused as a whole", () => {
  const times = new QueryTimes(openSql(":memory:"));
  const many = Array.from({ length: queryTimesMax + 1 }, () => ({ template: "top", outcome: "ok", ms: 1 }) as const);
  expect(() => times.observe(many)).toThrow(/^at most/);
  expect(times.text()).not.toContain("_count{");
});

test.each([
  [new PqlError("no", { line: 1, column: 1, expected: [], suggestion: null }), "invalid"],
  [new Problem("invalid_request", ""), "invalid"],
  [new Problem("pql_too_expensive", ""), "refused_price"],
  [new Problem("pql_rate_limited", ""), "refused_rate"],
  [new Problem("too_many_rows", "", { time_max_ms: 1 }), "timeout"],
  [new Problem("too_many_rows", "", { rows_max: 1 }), "too_many_rows"],
  [new Problem("meter_unavailable", ""), "unmetered"],
  [new Error("fetch failed"), "failed"],
])("%s is %s", (error, outcome) => {
  expect(outcomeOf(error)).toBe(outcome);
});
