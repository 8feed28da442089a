import { expect, test } from "vitest";
import { firstOf, isDeep, sampled, sampleSeed } from "../test/support/sampled.ts";

const list = Array.from({ length: 23 }, (_, at) => at);

test("a sample is each so-many-th case of a list, at least one, and the same one within a run", () => {
  for (const each of [1, 2, 7, 22, 23, 24, 1_000]) {
    const taken = sampled(list, each);
    const wanted = isDeep ? list.length : Math.max(1, Math.floor(list.length / each));
    expect(taken.length).toBeGreaterThanOrEqual(wanted);
    expect(taken.length).toBeLessThanOrEqual(isDeep ? wanted : Math.ceil(list.length / each));
    expect(sampled(list, each)).toEqual(taken);
  }
  expect(sampled([], 3)).toEqual([]);
  expect(sampleSeed).not.toBe("");
});

test("over the days every case is drawn", () => {
  const days = Array.from({ length: 200 }, (_, at) => new Date(Date.UTC(2026, 0, 1 + at)).toISOString().slice(0, 10));
  expect(new Set(days.map((day) => firstOf(day, 20))).size).toBe(20);
});
