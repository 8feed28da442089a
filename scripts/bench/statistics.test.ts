import { expect, test } from "vitest";
import { median, percentile, rounded, spreads } from "./statistics.ts";

const hundred = Array.from({ length: 100 }, (_, at) => 100 - at);

test("a percentile is a value that was measured: the nearest rank, in whatever order the values came", () => {
  expect([0.5, 0.95, 0.99, 1].map((share) => percentile(hundred, share))).toEqual([50, 95, 99, 100]);
  expect(percentile(hundred, 0)).toBe(1);
  expect(percentile([7], 0.95)).toBe(7);
  expect(percentile([1, 2, 3], 0.5)).toBe(2);
});

test("values are compared as numbers, and left in their order", () => {
  const values = [10, 9, 100];
  expect(percentile(values, 1)).toBe(100);
  expect(values).toEqual([10, 9, 100]);
});

test("a median of an even count lies between its two neighbours", () => {
  expect(median([4, 1, 3, 2])).toBe(2.5);
  expect(median([3, 1, 2])).toBe(2);
});

test("nothing measured is an error, not a zero", () => {
  expect(() => percentile([], 0.5)).toThrow(RangeError);
  expect(() => median([])).toThrow(RangeError);
  expect(() => spreads([])).toThrow(RangeError);
});

test("each figure has its median, least and most over the runs", () => {
  expect(
    spreads([
      { lost: 0, lag: 3 },
      { lost: 0, lag: 1 },
      { lost: 1, lag: 2 },
    ]),
  ).toEqual({ lost: { median: 0, min: 0, max: 1 }, lag: { median: 2, min: 1, max: 3 } });
});

test("figures are rounded to what was measured, small ones too", () => {
  expect([rounded(1.234567), rounded(0.00456789), rounded(0), rounded(50_000)]).toEqual([1.235, 0.004568, 0, 50_000]);
});
