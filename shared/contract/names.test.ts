// Names as callers write them, where a regular expression alone does not say it all.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { timestamp } from "./names.ts";

const accepted = (text: string): boolean => timestamp.safeParse(text).success;
const pad = (value: number, width: number): string => String(value).padStart(width, "0");

describe("a time", () => {
  test("is accepted exactly where Date reads it and writes it the same, from 1970 on", () => {
    const isTime = (text: string): boolean => {
      const at = Date.parse(text);
      return at >= 0 && new Date(at).toISOString() === text;
    };
    const parts = fc.tuple(
      fc.oneof(
        fc.integer({ min: 1968, max: 1973 }),
        fc.integer({ min: 0, max: 9999 }),
        fc.constantFrom(1900, 2000, 2100),
      ),
      fc.integer({ min: 0, max: 13 }),
      fc.integer({ min: 0, max: 32 }),
      fc.integer({ min: 0, max: 25 }),
      fc.integer({ min: 0, max: 61 }),
      fc.integer({ min: 0, max: 61 }),
      fc.integer({ min: 0, max: 999 }),
    );
    fc.assert(
      fc.property(parts, ([year, month, day, hour, minute, second, ms]) => {
        const text = `${pad(year, 4)}-${pad(month, 2)}-${pad(day, 2)}T${pad(hour, 2)}:${pad(minute, 2)}:${pad(second, 2)}.${pad(ms, 3)}Z`;
        expect([text, accepted(text)]).toEqual([text, isTime(text)]);
      }),
      { numRuns: 3_000 },
    );
  });

  test("has one spelling", () => {
    for (const text of [
      "",
      "2026-04-13",
      "2026-04-13T16:00:00Z",
      "2026-04-13T16:00:00.000+00:00",
      "+012026-04-13T16:00:00.000Z",
    ])
      expect(accepted(text)).toBe(false);
  });
});
