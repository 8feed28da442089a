// A question's price is the rows that it reads, and what is suggested where it is too high fits when it is taken.

import fc from "fast-check";
import { expect, test } from "vitest";
import { isDeep } from "../../test/support/sampled.ts";
import type { EventType } from "../contract/events.ts";
import { limits } from "./limits.ts";
import { parsePql } from "./parse.ts";
import { planQuery, type Plan } from "./plan.ts";
import { changesThatFit, outlineOf, priceOf, type Counts } from "./price.ts";
import { dayMs, fieldsOf, hourMs, scanParts } from "./scan-parts.ts";

const start = Date.UTC(2026, 3, 13);
const planOf = (query: string, now: number): Plan => planQuery(parsePql(query), query, now);
const sum = (numbers: readonly number[]): number => numbers.reduce((total, one) => total + one, 0);

interface Event {
  readonly type: EventType;
  readonly at: number;
}

/** Counters as the log tells them of these events; every hour has `groups` rows of counts a type, every day twice as many. */
function countersOf(events: readonly Event[], sealedTo: number | null, groups: number): Counts {
  const within = (type: EventType, from: number, to: number): readonly Event[] =>
    events.filter((event) => event.type === type && event.at >= from && event.at < to);
  const spans = (type: EventType, from: number, to: number, step: number): number =>
    new Set(within(type, from, to).map(({ at }) => at - (at % step))).size;
  return {
    events: (types, from, to) => types.map((type) => within(type, from, to).length),
    hourGroups: (types, from, to) => types.map((type) => groups * spans(type, from, to, hourMs)),
    dayGroups: (types, from, to) => types.map((type) => 2 * groups * spans(type, from, to, dayMs)),
    indexed_to: events.length === 0 ? null : Math.max(...events.map(({ at }) => at)),
    sealed_to: sealedTo,
  };
}

const eventsOf = fc.array(
  fc.record({
    type: fc.constantFrom<EventType>("mc.policy.decision", "mc.execution.finished"),
    at: fc.integer({ min: -6 * 86_400, max: 3_600 * 5 }).map((second) => start + second * 1_000),
  }),
  { maxLength: 300 },
);
const queryParts = fc.record({
  subject: fc.constantFrom("decisions", "events"),
  where: fc.constantFrom("", 'WHERE outcome = "deny"', 'WHERE rule = "ok"', 'WHERE rule = "ok" AND outcome = "deny"'),
  bucket: fc.constantFrom("", "BUCKET BY 1m", "BUCKET BY 5m", "BUCKET BY 1h", "BUCKET BY 1d"),
  top: fc.constantFrom("", "TOP 3 BY package", "TOP 3 BY channel"),
  since: fc.constantFrom("5m", "1h", "6h", "1d", "2d", "3d"),
});
type QueryParts = Record<"subject" | "where" | "bucket" | "top" | "since", string>;
const textOf = ({ subject, where, bucket, top, since }: QueryParts): string =>
  `FIND ${subject} ${where} ${bucket} ${top} SINCE ${since}`;
const nows = fc.integer({ min: 0, max: 5 * hourMs }).map((ms) => start + ms);
const sealed = fc.option(fc.integer({ min: -72, max: 5 }).map((hours) => start + hours * hourMs));

test("whole hours of events cost what stands in them, to the row", () => {
  fc.assert(
    fc.property(eventsOf, fc.integer({ min: 1, max: 72 }), fc.integer({ min: 0, max: 5 }), (events, hours, hour) => {
      const now = start + hour * hourMs;
      const plan = planOf(`FIND events WHERE rule = "ok" TOP 3 BY channel SINCE ${hours}h`, now);
      const inside = events.filter(({ at }) => at >= plan.from && at < plan.to);
      expect(priceOf({ plan, before_ms: null }, countersOf(events, null, 1), 100)).toBe(inside.length);
    }),
    { numRuns: 300, seed: 1220 },
  );
});

test("a price is the rows of its parts, counted one by one; cut hours are between none and all of theirs", () => {
  fc.assert(
    fc.property(eventsOf, queryParts, nows, sealed, (events, parts, now, sealedTo) => {
      const counts = countersOf(events, sealedTo, 4);
      const plan = planOf(textOf({ ...parts, bucket: parts.bucket === "" ? "BUCKET BY 1h" : parts.bucket }), now);
      const { totals, series } = scanParts(plan, sealedTo);
      const inTypes = events.filter(({ type }) => plan.types.includes(type));
      const hoursOf = (from: number, to: number): Event[] => inTypes.filter(({ at }) => at >= from && at < to);
      const distinct = (of: readonly Event[], step: number): number =>
        new Set(of.map(({ type, at }) => `${type} ${at - (at % step)}`)).size;
      const bounds = [...series, ...(plan.template === "top_buckets" && totals[0]!.to !== plan.to ? totals : [])].map(
        ({ level, from, to }): readonly [least: number, most: number] => {
          const [outerFrom, outerTo] = [Math.floor(from / hourMs) * hourMs, Math.ceil(to / hourMs) * hourMs];
          if (level === "day") return [8 * distinct(hoursOf(from, to), dayMs), 8 * distinct(hoursOf(from, to), dayMs)];
          const outer = hoursOf(outerFrom, outerTo);
          if (level === "hour") return [4 * distinct(outer, hourMs), 4 * distinct(outer, hourMs)];
          return [hoursOf(Math.ceil(from / hourMs) * hourMs, Math.floor(to / hourMs) * hourMs).length, outer.length];
        },
      );
      const price = priceOf({ plan, before_ms: null }, counts, 100);
      expect(price).toBeGreaterThanOrEqual(sum(bounds.map(([least]) => least)));
      expect(price).toBeLessThanOrEqual(sum(bounds.map(([, most]) => most)));
    }),
    { numRuns: 500, seed: 1221 },
  );
});

test("where packages are chosen, everyone's series is read from the leaders' rows again, and is paid", () => {
  const hours = { from: start - 6 * hourMs, to: start };
  const events = Array.from({ length: 6 }, (_, hour) => ({
    type: "mc.policy.decision" as const,
    at: hours.from + hour * hourMs,
  }));
  const counts = countersOf(events, hours.to, 4);
  const price = (where: string): number =>
    priceOf(
      {
        plan: outlineOf(planOf(`FIND decisions ${where} BUCKET BY 5m TOP 3 BY outcome SINCE 6h`, start)),
        before_ms: null,
      },
      counts,
      100,
    );
  expect(price('WHERE outcome = "deny"')).toBe(48);
  expect(price('WHERE package != "tools/a"')).toBe(72);
});

test("the newest hour counts up to its newest event, not as if it were over", () => {
  const events = Array.from({ length: 60 }, (_, second) => ({
    type: "mc.policy.decision" as const,
    at: start + second * 1_000,
  }));
  const plan = planOf("FIND decisions TOP 5 BY rule SINCE 1m", start + 60_000);
  expect(priceOf({ plan, before_ms: null }, countersOf(events, null, 1), 100)).toBe(60);
});

test("an hour that is over and is read in part costs that part of it, however much was logged since", () => {
  const events = Array.from({ length: 60 }, (_, minute) => ({
    type: "mc.policy.decision" as const,
    at: start + minute * 60_000,
  }));
  const since = { type: "mc.execution.finished" as const, at: start + 5 * hourMs };
  const plan = planOf("FIND decisions TOP 5 BY rule SINCE 330m", start + 6 * hourMs);
  expect(priceOf({ plan, before_ms: null }, countersOf([...events, since], null, 1), 100)).toBe(30);
});

test("rows cost a page of each type where nothing is asked of them, and all of the range where something is", () => {
  const events = Array.from({ length: 500 }, (_, second) => ({
    type: "mc.policy.decision" as const,
    at: start - 1_000 * second - 1,
  }));
  const counts = countersOf(events, null, 1);
  const price = (query: string, before: number | null = null): number =>
    priceOf({ plan: planOf(query, start), before_ms: before }, counts, 100);
  expect(price("FIND decisions SINCE 1h")).toBe(101);
  expect(price("FIND events SINCE 1h")).toBe(101);
  expect(price('FIND decisions WHERE rule = "ok" SINCE 1h')).toBe(500);
  // A later page reads what is left of the range.
  expect(price('FIND decisions WHERE rule = "ok" SINCE 1h', start - 400_000)).toBeLessThan(price('FIND decisions WHERE rule = "ok" SINCE 1h')); // prettier-ignore
  expect(price('FIND decisions WHERE rule = "ok" SINCE 1h', start - hourMs)).toBeLessThanOrEqual(1);
});

test("a range cut in two costs no less than the whole", () => {
  fc.assert(
    fc.property(eventsOf, nows, fc.integer({ min: 1, max: 71 }), (events, now, hours) => {
      const counts = countersOf(events, null, 1);
      const plan = planOf('FIND events WHERE rule = "ok" TOP 3 BY channel SINCE 3d', now);
      const price = (from: number, to: number): number =>
        priceOf({ plan: { ...plan, from, to }, before_ms: null }, counts, 100);
      const middle = plan.to - hours * hourMs;
      expect(price(plan.from, middle) + price(middle, plan.to)).toBeGreaterThanOrEqual(price(plan.from, plan.to));
    }),
    { numRuns: 300, seed: 1222 },
  );
});

test("an outline has no values, the fields once each, and the price of its plan", () => {
  fc.assert(
    fc.property(eventsOf, queryParts, nows, sealed, (events, parts, now, sealedTo) => {
      const plan = planOf(textOf(parts), now);
      const outline = outlineOf(plan);
      const counts = countersOf(events, sealedTo, 4);
      expect(priceOf({ plan: outline, before_ms: null }, counts, 100)).toBe(
        priceOf({ plan, before_ms: null }, counts, 100),
      );
      expect(new Set(fieldsOf(outline.condition))).toEqual(new Set(fieldsOf(plan.condition)));
    }),
    { numRuns: 300, seed: 1223 },
  );
  const names = Array.from({ length: 900 }, (_, index) => `"rule-${index}"`).join(", ");
  const long = outlineOf(planOf(`FIND decisions WHERE rule IN (${names}) OR rule = "ok"`, start));
  expect(JSON.stringify(long).length).toBeLessThan(400);
});

test("every change that is suggested, written into the query, fits at the price that it was named with", () => {
  const taken = { since: 0, drop: 0, top: 0, bucket: 0 };
  fc.assert(
    fc.property(eventsOf, queryParts, nows, sealed, fc.integer({ min: 0, max: 60 }), (events, parts, now, to, max) => {
      const counts = countersOf(events, to, 1);
      for (const { kind, text, rows } of changesThatFit(outlineOf(planOf(textOf(parts), now)), counts, 100, max)) {
        taken[kind] += 1;
        const changed: QueryParts = { ...parts };
        if (kind === "since") changed.since = text.replace("SINCE ", "");
        if (kind === "bucket") changed.bucket = text;
        if (kind === "top") changed.top = text;
        if (kind === "drop") {
          const dropped = text.replace("drop ", "");
          changed.where = parts.where.includes(" AND ") ? (dropped === "rule" ? 'WHERE outcome = "deny"' : 'WHERE rule = "ok"') : ""; // prettier-ignore
        }
        const price = priceOf({ plan: planOf(textOf(changed), now), before_ms: null }, counts, 100);
        expect([price, price <= max]).toEqual([rows, true]);
      }
    }),
    { numRuns: isDeep ? 2_000 : 500, seed: 1224 },
  );
  expect(Object.values(taken).every((times) => times > 0)).toBe(true);
});

test("a shorter range is as long as fits, and what cannot fit is not suggested", () => {
  const events = Array.from({ length: 96 }, (_, hour) => ({
    type: "mc.policy.decision" as const,
    at: start - hour * hourMs - 1,
  }));
  const plan = planOf('FIND decisions WHERE rule = "ok" BUCKET BY 1m SINCE 2d', start);
  const changes = (max: number, sealedTo: number | null = null) =>
    changesThatFit(plan, countersOf(events, sealedTo, 1), 100, max);
  expect(changes(30)).toEqual([{ kind: "since", text: "SINCE 1d", rows: 24 }]);
  expect(changes(0)).toEqual([]);
  const kept = planOf('FIND decisions WHERE rule = "ok" BUCKET BY 1h SINCE 30d', start);
  expect(changesThatFit(kept, countersOf(events, start, 1), 100, 12)).toEqual([
    { kind: "since", text: "SINCE 12h", rows: 12 },
    { kind: "drop", text: "drop rule", rows: 8 },
  ]);
});

test("the limits leave room: a question that fits comes to its turn, and the plan's load passes", () => {
  expect(limits.priceRowsMax).toBeLessThanOrEqual(limits.burstRowsMax);
  // 300 questions a second, a fifth of them by one tenant, of 20,000 rows each.
  expect(300 * 0.2 * 20_000).toBeLessThan(limits.rateRowsPerSecond);
});
