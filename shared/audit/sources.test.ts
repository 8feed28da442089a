// Source counters against every order in which events may come, on a real SQLite.

import fc from "fast-check";
import { expect, test } from "vitest";
import { openSql } from "../../test/support/sqlite.ts";
import { isDeep } from "../../test/support/sampled.ts";
import type { Sql } from "../contract/ports.ts";
import { aheadMax, expectCounted, missingDue, missingMs, SourceCounts, takeMissing, type Missing } from "./sources.ts";
import { headFor, openTables, setHead } from "./tables.ts";

const tenantId = "7f0c2d9e-5a53-4d2f-9a0b-2f6a1c9f0001";

function opened(): Sql {
  const sql = openSql(":memory:");
  openTables(sql);
  headFor(sql, tenantId);
  return sql;
}

function add(sql: Sql, source: string, numbers: readonly number[], now = 0): void {
  const counts = new SourceCounts(sql, now);
  for (const number of numbers) counts.add(source, number);
  counts.flush();
}

/** Tells until nothing is due. */
function allMissing(sql: Sql, now: number): Missing[] {
  const all: Missing[] = [];
  for (let told = takeMissing(sql, now); told.length > 0; told = takeMissing(sql, now)) all.push(...told);
  return all;
}

test("numbers that all come, in whatever order and batches, leave nothing missing and nothing stored", () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.integer({ min: 1, max: 60 }), { minLength: 60, maxLength: 60 }),
      fc.integer({ min: 1, max: 20 }),
      (numbers, size) => {
        const sql = opened();
        for (let at = 0; at < numbers.length; at += size) add(sql, "api", numbers.slice(at, at + size));
        expect(missingDue(sql)).toBeNull();
        expect(sql.exec("select reached from sources")).toEqual([{ reached: 60 }]);
        expect(sql.exec("select * from sources_ahead")).toEqual([]);
      },
    ),
    { numRuns: isDeep ? 2_000 : 20 },
  );
});

test("numbers that never come are told after an hour, each once, and no other", () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.integer({ min: 1, max: 40 }), { minLength: 1 }),
      fc.uniqueArray(fc.integer({ min: 1, max: 40 })),
      fc.integer({ min: 0, max: 45 }),
      (early, late, counted) => {
        const sql = opened();
        add(sql, "api", early, 0);
        if (counted > 0) expectCounted(sql, "api", counted, 0);
        expect(takeMissing(sql, missingMs - 1)).toEqual([]);
        const last = Math.max(...early, counted);
        const lost = Array.from({ length: last }, (_, at) => at + 1).filter((number) => !early.includes(number));
        const told = allMissing(sql, missingMs).flatMap(({ from, to }) =>
          Array.from({ length: to - from + 1 }, (_, at) => from + at),
        );
        expect(told).toEqual(lost);
        expect(missingDue(sql)).toBeNull();
        // What comes after all is no loss of anything else.
        add(
          sql,
          "api",
          late.filter((number) => lost.includes(number)),
          missingMs,
        );
        expect(allMissing(sql, 10 * missingMs)).toEqual([]);
      },
    ),
    { numRuns: isDeep ? 2_000 : 40 },
  );
});

test("the last events of all are missed, too: by what their source says that it counted", () => {
  const sql = opened();
  add(sql, "api", [1, 2, 3]);
  expectCounted(sql, "api", 3, 0);
  expect(missingDue(sql)).toBeNull();
  expectCounted(sql, "api", 5, 1_000);
  expectCounted(sql, "api", 5, 2_000);
  expect(missingDue(sql)).toBe(1_000 + missingMs);
  add(sql, "api", [4, 5]);
  expect(missingDue(sql)).toBeNull();
  expectCounted(sql, "api", 6, 3_000);
  expect(allMissing(sql, 3_000 + missingMs)).toEqual([{ source: "api", from: 6, to: 6 }]);
});

test("sources are counted apart", () => {
  const sql = opened();
  add(sql, "api", [1, 3], 10);
  add(sql, "privacy", [1, 2], 20);
  expectCounted(sql, "disclosure", 2, 30);
  expect(allMissing(sql, 30 + missingMs)).toEqual([
    { source: "api", from: 2, to: 2 },
    { source: "disclosure", from: 1, to: 2 },
  ]);
});

test("a log that is older than its counters starts with the first number that it sees", () => {
  const sql = opened();
  setHead(sql, { counted_from: 12 });
  add(sql, "api", [57, 58, 60]);
  expectCounted(sql, "privacy", 9, 0);
  expect(allMissing(sql, missingMs)).toEqual([{ source: "api", from: 59, to: 59 }]);
});

test("a hole is told at once where too much comes behind it, so that nothing grows without bound", () => {
  const sql = opened();
  const numbers = Array.from({ length: aheadMax + 1 }, (_, at) => at + 2);
  sql.transaction(() => add(sql, "api", numbers));
  expect(takeMissing(sql, 0)).toEqual([{ source: "api", from: 1, to: 1 }]);
  expect(sql.exec("select count(*) as n from sources_ahead")).toEqual([{ n: 0 }]);
});
