import { expect, test } from "vitest";
import { parsePql } from "../../shared/pql/parse.ts";
import { planQuery } from "../../shared/pql/plan.ts";
import { seeded } from "../../test/simulation/audit-events.ts";
import {
  dailySwing,
  drawMix,
  ownText,
  placeOf,
  questionNames,
  questions,
  unkeptText,
  stepsUntil,
  timeAt,
  zipfShares,
} from "./pql-mix.ts";

const now = Date.UTC(2026, 10, 26, 3, 12);
const shares = zipfShares(200, 1.1);

test("shares by Zipf add up to the whole: of ten million the largest tenant has 2.1 million, the median one 13 thousand", () => {
  expect(shares.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 9);
  expect(Math.round(shares[0]! * 10_000_000)).toBeGreaterThan(2_100_000);
  expect(Math.round(shares[0]! * 10_000_000)).toBeLessThan(2_200_000);
  expect(Math.round(shares[99]! * 10_000_000)).toBeGreaterThan(13_000);
  expect(Math.round(shares[99]! * 10_000_000)).toBeLessThan(14_000);
});

test("what is drawn falls on a place, at both ends too", () => {
  expect(placeOf([0.5, 0.5], 0)).toBe(0);
  expect(placeOf([0.5, 0.5], 0.5)).toBe(1);
  expect(placeOf([0.5, 0.4], 0.999)).toBe(1);
});

test("a mix has each question and each tenant by its share, and is the same from the same seed", () => {
  const drawn = drawMix(seeded(1_922), 20_000, shares);
  for (const name of questionNames) {
    const share = drawn.filter(({ question }) => question === name).length / drawn.length;
    expect(Math.abs(share - questions[name].share)).toBeLessThan(0.02);
  }
  const ofLargest = drawn.filter(({ tenant }) => tenant === 0).length / drawn.length;
  expect(Math.abs(ofLargest - shares[0]!)).toBeLessThan(0.02);
  expect(drawMix(seeded(1_922), 20_000, shares)).toEqual(drawn);
});

test("a text of its own asks the same", () => {
  for (const name of questionNames) {
    const { query } = questions[name];
    const texts = [0, 1, 2 ** 24 - 1].map((number) => ownText(query, number));
    expect(new Set(texts).size).toBe(3);
    for (const text of texts)
      expect(planQuery(parsePql(text), text, now)).toEqual(planQuery(parsePql(query), query, now));
  }
});

test("a question that nothing is kept of is the same but for a condition that everything meets", () => {
  for (const name of questionNames) {
    const { query } = questions[name];
    const texts = [1, 2].map((number) => unkeptText(query, number));
    const plans = texts.map((text) => planQuery(parsePql(text), text, now));
    expect(new Set(plans.map(({ condition }) => JSON.stringify(condition))).size).toBe(2);
    const without = (plan: (typeof plans)[number]): unknown => ({ ...plan, condition: null });
    expect(plans.map(without)).toEqual(texts.map(() => without(planQuery(parsePql(query), query, now))));
    expect(texts[0]).toContain('outcome != "none-1"');
  }
});

test("a pace never goes back, swings over the day as it says, and has every step that is over", () => {
  const pace = { origin: now - 30 * 86_400_000, step_ms: 1_217 };
  const until = stepsUntil(pace, now);
  expect(timeAt(pace, until)).toBeLessThanOrEqual(now);
  expect(timeAt(pace, until + 1)).toBeGreaterThan(now);
  const gaps = Array.from({ length: 100_000 }, (_, step) => timeAt(pace, step + 1) - timeAt(pace, step));
  expect(Math.min(...gaps) / pace.step_ms).toBeCloseTo(1 - dailySwing, 3);
  expect(Math.max(...gaps) / pace.step_ms).toBeCloseTo(1 + dailySwing, 3);
  expect(stepsUntil({ origin: now + 86_400_000, step_ms: 1 }, now)).toBe(0);
});
