// A question's range is read once each: parts follow each other without a gap, and are cut where their rows are.

import fc from "fast-check";
import { expect, test } from "vitest";
import { parsePql } from "./parse.ts";
import { planQuery, type Plan } from "./plan.ts";
import { dayMs, hourMs, scanParts, slotMs, type ScanPart } from "./scan-parts.ts";

const planOf = (query: string, now: number): Plan => planQuery(parsePql(query), query, now);
const start = Date.UTC(2026, 3, 13);
const queries = fc
  .record({
    bucket: fc.constantFrom("", "BUCKET BY 5m", "BUCKET BY 1h", "BUCKET BY 1d"),
    top: fc.constantFrom("", "TOP 3 BY package"),
    since: fc.oneof(
      fc.integer({ min: 1, max: 9 }).map((days) => `${days}d`),
      fc.integer({ min: 1, max: 10 * 86_400 }).map((seconds) => `${seconds}s`),
    ),
  })
  .filter(({ bucket, top }) => bucket !== "" || top !== "")
  .map(({ bucket, top, since }) => `FIND decisions WHERE outcome = "deny" ${bucket} ${top} SINCE ${since}`);

test("parts cover the range once, in order, and are cut where their rows begin and end", () => {
  const aligned = { raw: 1, hour: slotMs, day: dayMs } as const;
  fc.assert(
    fc.property(
      queries,
      fc.integer({ min: 0, max: 3 * dayMs }).map((ms) => start + ms),
      fc.option(fc.integer({ min: -400, max: 80 }).map((hours) => start + hours * hourMs)),
      (query, now, sealedTo) => {
        const plan = planOf(query, now);
        const { totals, series } = scanParts(plan, sealedTo);
        for (const parts of [totals, ...("bucket_ms" in plan ? [series] : [])]) {
          expect(parts[0]!.from).toBe(plan.from);
          expect(parts.at(-1)!.to).toBe(plan.to);
          expect(parts.filter(({ from, to }) => from >= to)).toEqual([]);
          expect(parts.slice(1).map(({ from }) => from)).toEqual(parts.slice(0, -1).map(({ to }) => to));
          const coarse = parts.filter(({ level }) => level !== "raw");
          expect(coarse.filter(({ level, from, to }) => from % aligned[level] || to % aligned[level])).toEqual([]);
          expect(coarse.filter(({ to }) => sealedTo === null || to > sealedTo)).toEqual([]);
        }
        const isFine = "bucket_ms" in plan && plan.bucket_ms < hourMs;
        expect(isFine && series.some(({ level }) => level === "day")).toBe(false);
      },
    ),
    { numRuns: 500, seed: 1922 },
  );
});

const levelOf = ({ level }: ScanPart): string => level;

test.each([
  ["FIND decisions BUCKET BY 1h TOP 5 BY package SINCE 30d", ["hour", "day", "hour", "raw"]],
  ["FIND decisions BUCKET BY 1d SINCE 30d", ["day", "hour", "raw"]],
  ["FIND decisions TOP 5 BY package SINCE 30d", ["raw", "hour", "day", "hour", "raw"]],
  ["FIND decisions BUCKET BY 1m SINCE 2d", ["raw"]],
  ['FIND decisions WHERE rule = "ok" TOP 5 BY package SINCE 30d', ["raw"]],
  ["FIND decisions TOP 5 BY channel SINCE 30d", ["raw"]],
  ["FIND decisions TOP 5 BY package SINCE 20m", ["raw"]],
  ["FIND decisions SINCE 30d", ["raw"]],
])("%s is read from %j", (query, levels) => {
  const now = start + 10 * hourMs + 17 * 60_000 + 3;
  expect(scanParts(planOf(query, now), start + 10 * hourMs).totals.map(levelOf)).toEqual(levels);
});
