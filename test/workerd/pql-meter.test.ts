// The PqlMeter object as it is deployed: what it was told outlives it, and of many at once nobody gets a row too many.

import { evictDurableObject, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { expect, test } from "vitest";
import type { EventType } from "../../shared/contract/events.ts";
import { limits } from "../../shared/pql/limits.ts";
import type { MeterAsk, MeterPort } from "../../shared/pql/meter.ts";
import type { CountReport } from "../../shared/contract/event-counts.ts";
import { parsePql } from "../../shared/pql/parse.ts";
import { planQuery } from "../../shared/pql/plan.ts";
import { outlineOf } from "../../shared/pql/price.ts";
import { hourMs } from "../../shared/pql/scan-parts.ts";
import { partsOf } from "../../workers/api/compose.ts";
import type { Env } from "../../workers/api/env.ts";

type Meter = DurableObjectStub & MeterPort & { report(report: CountReport): Promise<void> };
const namespace = (env as unknown as { PQL_METER: DurableObjectNamespace }).PQL_METER;
let count = 0;
const open = (): Meter =>
  namespace.getByName(`00000000-0000-4000-8000-${String((count += 1)).padStart(12, "0")}`) as unknown as Meter;

const type: EventType = "mc.policy.decision";
const lastHour = Math.floor(Date.now() / hourMs) * hourMs - hourMs;
const reportOf = (seq: number, rows: number): CountReport => ({
  indexed_seq: seq,
  indexed_to: lastHour + seq,
  sealed_to: lastHour,
  hours: [{ hour: lastHour, type, rows, groups: 0 }],
  days: [],
});
const ask = (spend = true): MeterAsk => {
  const query = "FIND decisions TOP 5 BY rule SINCE 3h";
  const plan = outlineOf(planQuery(parsePql(query), query, lastHour + hourMs));
  return { plan, before_ms: null, held_seq: null, spend };
};

test("what was reported is there after the object was evicted, and an older report takes nothing back", async () => {
  const meter = open();
  await meter.report(reportOf(900, 900));
  await evictDurableObject(meter);
  await meter.report(reportOf(40, 40));
  expect(await meter.admit(ask())).toMatchObject({
    state: "admitted",
    price: { rows: 900, limit: limits.priceRowsMax },
    head: { indexed_seq: 900, indexed_to: lastHour + 900, sealed_to: lastHour },
  });
});

test("of fifty at once as many are admitted as the bucket has rows for", async () => {
  const meter = open();
  await meter.report(reportOf(1, limits.priceRowsMax));
  const before = Date.now();
  const answers = await Promise.all(Array.from({ length: 50 }, () => meter.admit(ask())));
  const admitted = answers.filter(({ state }) => state === "admitted").length;
  const fits = (elapsedMs: number): number =>
    Math.floor((limits.burstRowsMax + (elapsedMs * limits.rateRowsPerSecond) / 1_000) / limits.priceRowsMax);
  expect(admitted).toBeGreaterThanOrEqual(fits(0));
  expect(admitted).toBeLessThanOrEqual(fits(Date.now() - before));
});

test("a plan with every kind of field and a thousand values travels as its outline, and a refusal says what would fit", async () => {
  const meter = open();
  await meter.report(reportOf(1, limits.priceRowsMax + 1));
  const values = Array.from({ length: 1_000 }, (_, index) => `"rule-${index}"`).join(", ");
  const query = `FIND decisions WHERE rule IN (${values}) AND attrs.action = "x" BUCKET BY 1m SINCE 3h`;
  const plan = outlineOf(planQuery(parsePql(query), query, lastHour + hourMs));
  const refused = await meter.admit({ ...ask(), plan });
  expect(refused).toMatchObject({
    state: "too_expensive",
    price: { rows: limits.priceRowsMax + 1 },
    changes: [{ kind: "since", text: "SINCE 15m" }],
  });
});

test("a question writes nothing: it waits for no disk", async () => {
  const meter = open();
  await meter.report(reportOf(5, 5));
  const written = (): Promise<number> =>
    runInDurableObject(meter, (_, state) => {
      const rows = state.storage.sql.exec<{ n: number }>("select total_changes() as n").one().n;
      return rows;
    });
  const before = await written();
  for (let time = 0; time < 20; time += 1) await meter.admit(ask());
  expect(await written()).toBe(before);
});

test("how long questions took is there after the object was evicted", async () => {
  const meter = open();
  await meter.observe([{ template: "top", outcome: "ok", ms: 4 }]);
  await evictDurableObject(meter);
  await meter.observe([{ template: "top", outcome: "ok", ms: 400 }]);
  expect(await meter.timesText()).toContain('mc_pql12_query_ms_sum{template="top",outcome="ok"} 404\n');
});

test("a meter that fails, or does not answer in time, is a problem of its own", async () => {
  const metered = (admit: () => Promise<never>): MeterPort => {
    const given = { ...(env as unknown as Env), PQL_METER: { getByName: () => ({ admit }) } };
    return partsOf(given as unknown as Env).meter("00000000-0000-4000-8000-000000000000");
  };
  const failing = metered(() => Promise.reject(new Error("overloaded")));
  await expect(failing.admit(ask())).rejects.toMatchObject({ name: "Problem", code: "meter_unavailable" });
  const silent = metered(() => new Promise(() => {}));
  const begun = Date.now();
  await expect(silent.admit(ask())).rejects.toMatchObject({ name: "Problem", code: "meter_unavailable" });
  expect(Date.now() - begun).toBeLessThan(5_000);
});
