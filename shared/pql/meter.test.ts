// The meter keeps the largest count of everything that it was told, however it was told, and gives out rows at its rate.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { openSql } from "../../test/support/sqlite.ts";
import type { EventType } from "../contract/events.ts";
import { limits } from "./limits.ts";
import { Meter, meterLimits, reportRowsMax, type Admission, type MeterAsk, type MeterLimits } from "./meter.ts";
import type { CountReport } from "../contract/event-counts.ts";
import { parsePql } from "./parse.ts";
import { planQuery } from "./plan.ts";
import { outlineOf } from "./price.ts";
import { dayMs, hourMs } from "./scan-parts.ts";
import { isDeep } from "../../test/support/sampled.ts";

const start = Date.UTC(2026, 3, 13);
const type: EventType = "mc.policy.decision";
const small: MeterLimits = {
  price_rows_max: 5_000,
  rate_rows_per_second: 10_000,
  burst_rows_max: 20_000,
  page_rows: 100,
};

const askOf = (query: string, now: number, more: Partial<MeterAsk> = {}): MeterAsk => ({
  plan: outlineOf(planQuery(parsePql(query), query, now)),
  before_ms: null,
  held_seq: null,
  spend: true,
  ...more,
});
const meterOf = (limits: MeterLimits = meterLimits): Meter => new Meter(openSql(":memory:"), limits);
const reportOf = (parts: Partial<CountReport>): CountReport => ({
  indexed_seq: 0,
  indexed_to: 0,
  sealed_to: null,
  hours: [],
  days: [],
  ...parts,
});
const rowsOf = (meter: Meter, query: string, now: number): number =>
  meter.admit(askOf(query, now, { spend: false }), now).price.rows;

describe("reports", () => {
  const questions = [
    'FIND events WHERE rule = "ok" TOP 5 BY channel SINCE 4d',
    "FIND decisions BUCKET BY 5m TOP 5 BY package SINCE 3d",
    "FIND decisions BUCKET BY 1h SINCE 4d",
    "FIND executions TOP 3 BY package SINCE 30h",
  ];
  const all = (meter: Meter, now: number): unknown =>
    questions.map((query) => {
      const { price, head } = meter.admit(askOf(query, now, { spend: false }), now);
      return { price, head };
    });

  test("told twice, late and in any order, they leave what they leave in order", () => {
    // A log that only grows: what each report says follows from how far it had come.
    const told = fc
      .array(fc.record({ hour: fc.nat(71), rows: fc.integer({ min: 1, max: 50 }) }), { minLength: 1, maxLength: 40 })
      .map((batches): readonly CountReport[] => {
        const counts = new Map<number, number>();
        let seq = 0;
        return [...batches]
          .sort((left, right) => left.hour - right.hour)
          .map(({ hour, rows }) => {
            seq += rows;
            counts.set(hour, (counts.get(hour) ?? 0) + rows);
            const sealedTo = Math.max(0, hour - 1);
            const day = Math.floor(sealedTo / 24) - 1;
            return {
              indexed_seq: seq,
              indexed_to: start + hour * hourMs + seq,
              sealed_to: start + sealedTo * hourMs,
              hours: [hour, sealedTo - 1]
                .filter((one) => counts.has(one))
                .map((one) => ({
                  hour: start + one * hourMs,
                  type,
                  rows: counts.get(one)!,
                  groups: one < sealedTo ? 3 : 0,
                })),
              days: day < 0 ? [] : [{ day: start + day * dayMs, type, groups: 7 }],
            };
          });
      });
    const mixed = told.chain((reports) =>
      fc.tuple(fc.constant(reports), fc.shuffledSubarray([...reports, ...reports], { minLength: reports.length * 2 })),
    );
    const now = start + 3 * dayMs + 1;
    fc.assert(
      fc.property(mixed, ([reports, shuffled]) => {
        const [inOrder, anyhow] = [meterOf(), meterOf()];
        for (const report of reports) inOrder.report(report, now);
        for (const report of shuffled) anyhow.report(report, now);
        expect(all(anyhow, now)).toEqual(all(inOrder, now));
      }),
      { numRuns: isDeep ? 100 : 15, seed: 1220 },
    );
  });

  test("prices are the counters' own sums, whichever hours and days they were told of", () => {
    const hours = fc.uniqueArray(fc.record({ hour: fc.nat(120), rows: fc.nat(90), groups: fc.nat(9) }), {
      selector: ({ hour }) => hour,
      maxLength: 120,
    });
    fc.assert(
      fc.property(hours, fc.nat(110), fc.integer({ min: 1, max: 96 }), (told, end, length) => {
        const meter = meterOf();
        const now = start + Math.max(end, length) * hourMs;
        meter.report(
          reportOf({
            indexed_to: now,
            hours: told.map(({ hour, ...counts }) => ({ hour: start + hour * hourMs, type, ...counts })),
          }),
          now + 10 * dayMs,
        );
        const inside = told.filter(
          ({ hour }) => start + hour * hourMs >= now - length * hourMs && start + hour * hourMs < now,
        );
        expect(rowsOf(meter, `FIND decisions WHERE rule = "ok" TOP 5 BY package SINCE ${length}h`, now)).toBe(
          inside.reduce((sum, { rows }) => sum + rows, 0),
        );
      }),
      { numRuns: isDeep ? 300 : 40, seed: 1221 },
    );
  });

  test("sealed hours cost their rows of counts, and as many as their events where those were not told of", () => {
    const meter = meterOf();
    const hours = [0, 1].map((hour) => ({
      hour: start + hour * hourMs,
      type,
      rows: 1_000,
      groups: hour === 0 ? 12 : 0,
    }));
    meter.report(reportOf({ indexed_to: start + 2 * hourMs, sealed_to: start + 2 * hourMs, hours }), start + dayMs);
    const query = "FIND decisions TOP 5 BY package SINCE 2h";
    expect(rowsOf(meter, query, start + 2 * hourMs)).toBe(1_012);
    meter.report(reportOf({ hours: [{ hour: start + hourMs, type, rows: 1_000, groups: 9 }] }), start + dayMs);
    expect(rowsOf(meter, query, start + 2 * hourMs)).toBe(21);
  });

  test("what was asked before does not hold on to older counters", () => {
    const told = fc.array(fc.record({ hour: fc.nat(95), rows: fc.nat(90), groups: fc.nat(9), days: fc.boolean() }), {
      maxLength: 30,
    });
    const now = start + 4 * dayMs;
    fc.assert(
      fc.property(told, (reports) => {
        const [asked, unasked] = [meterOf(), meterOf()];
        for (const { hour, days, ...counts } of reports) {
          const at = start + hour * hourMs;
          const report = reportOf({
            indexed_to: now,
            sealed_to: now - 2 * hourMs,
            hours: [{ hour: at, type, ...counts }],
            days: days ? [{ day: at - (at % dayMs), type, groups: counts.groups }] : [],
          });
          asked.report(report, now);
          unasked.report(report, now);
          all(asked, now);
        }
        expect(all(asked, now)).toEqual(all(unasked, now));
      }),
      { numRuns: isDeep ? 100 : 15, seed: 1223 },
    );
  });

  test("what is durable is there when the object comes back", () => {
    const sql = openSql(":memory:");
    const hours = [{ hour: start, type, rows: 70, groups: 0 }];
    new Meter(sql).report(reportOf({ indexed_seq: 70, indexed_to: start + 5, hours }), start + hourMs);
    const admission = new Meter(sql).admit(
      askOf("FIND decisions TOP 5 BY rule SINCE 1h", start + hourMs),
      start + hourMs,
    );
    expect(admission).toMatchObject({
      price: { rows: 70 },
      head: { indexed_seq: 70, indexed_to: start + 5, sealed_to: null },
    });
  });

  test("hours that no question reaches are not kept, so that the counters stay few", () => {
    const sql = openSql(":memory:");
    const rowCount = (): number =>
      sql.exec<{ n: number }>("select (select count(*) from hours) + (select count(*) from days) as n")[0]!.n;
    const meter = new Meter(sql);
    for (let day = 0; day < 900; day += 1) {
      const now = start + day * dayMs;
      const hours = [-dayMs * 500, 0, dayMs * 5].map((away) => ({ hour: now + away, type, rows: 1, groups: 0 }));
      meter.report(reportOf({ hours }), now);
    }
    expect(rowCount()).toBeLessThanOrEqual(2 * 403);
    const now = start + 899 * dayMs;
    expect(rowsOf(meter, 'FIND decisions WHERE rule = "ok" TOP 5 BY rule SINCE 400d', now + 1)).toBe(401);
  });

  test.each<[string, Partial<CountReport>]>([
    ["half an hour", { hours: [{ hour: start + 1, type, rows: 1, groups: 0 }] }],
    ["less than nothing", { hours: [{ hour: start, type, rows: -1, groups: 0 }] }],
    ["no number", { indexed_to: Number.NaN }],
    ["a day that begins at noon", { days: [{ day: start + dayMs / 2, type, groups: 1 }] }],
    ["a sealed hour that is not over", { sealed_to: start + 60_000 }],
    [
      "too much",
      {
        hours: Array.from({ length: reportRowsMax + 1 }, (_, hour) => ({
          hour: hour * hourMs,
          type,
          rows: 1,
          groups: 0,
        })),
      },
    ],
  ])("a report of %s is refused, and nothing of it kept", (_, parts) => {
    const meter = meterOf();
    const good = { hour: start - hourMs, type, rows: 5, groups: 0 };
    const report = reportOf({ indexed_seq: 9, ...parts, hours: [good, ...(parts.hours ?? [])] });
    expect(() => meter.report(report, start)).toThrow(/^a report has/);
    expect(all(meter, start)).toEqual(all(meterOf(), start));
  });
});

describe("admission", () => {
  const counted = (limits: MeterLimits, rows: number): Meter => {
    const meter = meterOf(limits);
    meter.report(reportOf({ indexed_seq: rows, indexed_to: start + hourMs, hours: [{ hour: start, type, rows, groups: 0 }] }), start + hourMs); // prettier-ignore
    return meter;
  };
  const query = "FIND decisions TOP 5 BY rule SINCE 1h";
  const ask = (meter: Meter, now: number, more: Partial<MeterAsk> = {}): Admission =>
    meter.admit(askOf(query, start + hourMs, more), now);

  test("rows are given out until the bucket is empty, then at its rate, and whoever waits as long as told is admitted", () => {
    const meter = counted(small, 5_000);
    const now = start + hourMs;
    expect([1, 2, 3, 4].map(() => ask(meter, now).state)).toEqual(Array.from({ length: 4 }, () => "admitted"));
    const refused = ask(meter, now);
    if (refused.state !== "rate_limited") throw new Error("the bucket was empty");
    expect(refused).toMatchObject({ retry_after_ms: 500, price: { rows: 5_000, limit: 5_000 } });
    expect(ask(meter, now + refused.retry_after_ms - 1).state).toBe("rate_limited");
    // The refusal itself took what came in meanwhile, up to its small constant.
    expect(ask(meter, now + refused.retry_after_ms + (limits.unreadRows / small.rate_rows_per_second) * 1_000).state).toBe("admitted"); // prettier-ignore
  });

  test("over any time nobody gets more than the burst and the rate", () => {
    fc.assert(
      fc.property(
        fc.array(fc.record({ wait: fc.integer({ min: 0, max: 3_000 }), hours: fc.integer({ min: 1, max: 3 }) }), {
          maxLength: 60,
        }),
        (asks) => {
          const meter = meterOf(small);
          meter.report(reportOf({ indexed_to: start + 3 * hourMs, hours: [0, 1, 2].map((hour) => ({ hour: start + hour * hourMs, type, rows: 1_600, groups: 0 })) }), start); // prettier-ignore
          const begin = start + 3 * hourMs;
          let [now, given] = [begin, 0];
          for (const { wait, hours } of asks) {
            now += wait;
            const admission = meter.admit(askOf(`FIND decisions TOP 5 BY rule SINCE ${hours}h`, begin), now);
            if (admission.state === "admitted") given += admission.price.rows;
          }
          expect(given).toBeLessThanOrEqual(
            small.burst_rows_max + ((now - begin) * small.rate_rows_per_second) / 1_000,
          );
        },
      ),
      { numRuns: isDeep ? 200 : 30, seed: 1222 },
    );
  });

  test("the plan's load passes: sixty questions a second of 20,000 rows each, from one tenant", () => {
    const meter = counted(meterLimits, 20_000);
    const states = Array.from({ length: 60 * 60 }, (_, nth) => {
      const now = start + hourMs + Math.floor((nth * 1_000) / 60);
      return ask(meter, now).state;
    });
    expect(new Set(states)).toEqual(new Set(["admitted"]));
  });

  test("a question that reads nothing takes a little all the same", () => {
    const meter = meterOf(small);
    const states = Array.from({ length: 21 }, () => ask(meter, start).state);
    expect(states.filter((state) => state === "admitted")).toHaveLength(20);
  });

  test("a question over its limit is refused for good, with what would fit, and takes a little", () => {
    const meter = counted(small, 5_001);
    const now = start + hourMs;
    const refused = ask(meter, now);
    expect(refused).toMatchObject({
      state: "too_expensive",
      price: { rows: 5_001, limit: 5_000 },
      changes: [{ kind: "since", text: "SINCE 15m" }],
    });
    for (let probe = 1; probe < 200; probe += 1) ask(meter, now);
    expect(ask(meter, now, { plan: askOf("FIND decisions TOP 5 BY rule SINCE 15m", now).plan }).state).toBe(
      "rate_limited",
    );
  });

  test("asking what a question would cost takes nothing", () => {
    const meter = counted(small, 5_000);
    const states = Array.from({ length: 100 }, () => ask(meter, start, { spend: false }).state);
    expect(new Set(states)).toEqual(new Set(["admitted"]));
    expect([1, 2, 3, 4].map(() => ask(meter, start).state)).toEqual(Array.from({ length: 4 }, () => "admitted"));
    expect(ask(meter, start, { spend: false }).state).toBe("rate_limited");
  });

  test("a clock that goes back gives nothing and stops nothing", () => {
    const meter = counted(small, 5_000);
    const now = start + hourMs;
    for (let time = 0; time < 4; time += 1) ask(meter, now);
    const refused = ask(meter, now - hourMs);
    expect(refused.state).toBe("rate_limited");
    // As long as it would have been had the clock stood still: not an hour more.
    expect(refused).toMatchObject({ retry_after_ms: 500 });
    expect(ask(meter, now - hourMs + 600).state).toBe("admitted");
    expect(ask(meter, now).state).toBe("admitted");
  });

  test("an answer at hand is paid as one that is not read, while nothing was written", () => {
    const meter = counted(small, 5_000);
    const now = start + hourMs;
    const states = Array.from({ length: 50 }, () => ask(meter, now, { held_seq: 5_000 }));
    expect(states.every((one) => one.state === "admitted" && one.unchanged)).toBe(true);
    expect(ask(meter, now, { held_seq: 4_999 })).toMatchObject({ state: "admitted", unchanged: false });
    meter.report(reportOf({ indexed_seq: 5_001 }), now);
    expect(ask(meter, now, { held_seq: 5_000 })).toMatchObject({ state: "admitted", unchanged: false });
  });

  test("a meter whose limit is over its burst would let a question wait for ever, and cannot be made", () => {
    expect(() => meterOf({ ...small, burst_rows_max: 4_999 })).toThrow(/^what is not refused/);
  });
});
