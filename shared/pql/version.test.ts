// PQL 1.1 and what 1.2 added to it.

import { expect, test } from "vitest";
import { parsePql } from "./parse.ts";
import { PqlError } from "./pql-error.ts";
import { refusePql12, usesPql12 } from "./version.ts";

function refusal(query: string): PqlError {
  try {
    refusePql12(parsePql(query), query);
  } catch (error) {
    if (error instanceof PqlError) return error;
    throw error;
  }
  throw new Error("it was not refused");
}

test.each([
  "FIND events",
  "find events since 1h",
  'FIND decisions WHERE rule = "TOP 5 BY package BUCKET BY 5m" SINCE 1h',
  'FIND decisions WHERE package IN ("top", "bucket by")',
])("FIND, WHERE and SINCE are 1.1: %s", (query) => {
  expect(usesPql12(parsePql(query))).toBe(false);
  expect(() => refusePql12(parsePql(query), query)).not.toThrow();
});

test.each<[string, string, number, number]>([
  ["FIND events BUCKET BY 5m", "BUCKET BY", 1, 13],
  ["find events bucket\n by\t5m", "BUCKET BY", 1, 13],
  ["FIND events\n  TOP 5 BY type SINCE 1h", "TOP", 2, 3],
  ["FIND events TOP K type LIMIT 5", "TOP", 1, 13],
  ["FIND events BUCKET BY 5m TOP 5 BY type", "BUCKET BY", 1, 13],
  ['FIND events WHERE rule = "BUCKET BY 1m" TOP 5 BY type', "TOP", 1, 41],
])("a clause of 1.2 is refused where it begins: %s", (query, clause, line, column) => {
  expect(usesPql12(parsePql(query))).toBe(true);
  expect(refusal(query)).toMatchObject({
    line,
    column,
    message: `${clause} is PQL 1.2, and the flag pql_v1_2 is off for this tenant.`,
  });
  expect(refusal(query).suggestion).toContain("FIND, WHERE and SINCE");
});
