// The engine on the real Postgres while hours and days are sealed: every answer is the one that it was before, which a loop over
// the rows gives, and DuckDB over the same rows. MC-PQL-1921, MC-PQL-1922.

import fc from "fast-check";
import { expect, test } from "vitest";
import type { PqlAnswer } from "../../shared/contract/http-pql.ts";
import { askPql } from "../../shared/pql/engine.ts";
import { sealHours } from "../../shared/pql/hours-store.ts";
import { parsePql } from "../../shared/pql/parse.ts";
import { planQuery } from "../../shared/pql/plan.ts";
import { dayMs, hourMs } from "../../shared/pql/scan-parts.ts";
import { askLimits, writeEventRows } from "../../shared/pql/store.ts";
import { SealedCache } from "../../shared/pql/sealed-cache.ts";
import { isBySlots } from "../../shared/pql/templates.ts";
import { useStack } from "../support/stack.ts";
import { duckRows, type Counted } from "./pql-duckdb.ts";
import { asks, askText, epoch, instants, keptAsks, rowsOf, type Ask } from "./pql-generator.ts";
import { reference } from "./pql-reference.ts";
import { connect, rowOf, tenantNumber } from "./pql-support.ts";

const deep = process.env["MAESTRO_DEEP"] === "1";
const timeout = deep ? 3_600_000 : 60_000;
const stack = useStack();
const app = connect(stack, "app");
const audit = connect(stack, "audit");
const [growing, standing] = [tenantNumber(0xd21), tenantNumber(0xd22)];

/** Times over four days, many of them at the edge of a slot, an hour or a day, some after days without any event. */
const spreadTimes: fc.Arbitrary<number> = fc.oneof(
  fc.constantFrom(...instants),
  fc.integer({ min: 0, max: 3 * dayMs }).map((ms) => epoch + ms),
  fc
    .tuple(fc.integer({ min: 0, max: 3 * 24 * 12 }), fc.constantFrom(-1, 0, 1))
    .map(([slot, ms]) => epoch + slot * 300_000 + ms),
  fc.constantFrom(-1, 0, 1).map((ms) => epoch + 100 * dayMs + ms),
);

/** What DuckDB counts too. */
function countedOf(answered: PqlAnswer): Counted {
  if (answered.kind !== "groups") throw new Error("groups were asked for");
  const { groups, other, total, buckets } = answered;
  const of = (at: number): number[] => buckets!.map(({ counts, other: left }) => counts[at] ?? left);
  return { groups, other, total, counts: buckets === null ? null : [...groups, null].map((_, at) => of(at)) };
}

const sealing = rowsOf(growing, 3, 1_400, spreadTimes);
const timeOf = (at: number): number => (at < sealing.length ? Date.parse(sealing[at]!.logged_at) : Infinity);
const hourOf = (ms: number): number => ms - (ms % hourMs);
const runs = deep ? 20_000 : 120;
const usedTemplates = new Map<string, number>();

test(
  "every answer is what it was before sealing, whatever stands and however much of it is known",
  { timeout },
  async () => {
    const duck = await duckRows(sealing);
    let written = 0;
    let sealedTo: number | null = null;
    let asked = 0;
    const steps = fc.record({
      ask: fc.oneof({ weight: 4, arbitrary: keptAsks }, { weight: 1, arbitrary: asks }),
      /** Of the time that the rows reach by then: sometimes earlier, sometimes later. */
      away: fc.constantFrom(-dayMs, -hourMs - 7, -1, 0, 1, 1, 60_000, 400_000, 5 * hourMs, 2 * dayMs),
      rowCount: fc.constantFrom(0, 0, 1, 7),
      lag: fc.constantFrom(0, 0, 1, 3, 30),
      seals: fc.boolean(),
      knowledge: fc.constantFrom("all", "all", "less", "none", "too much"),
      keeps: fc.boolean(),
    });
    const kept = new SealedCache();
    try {
      await fc.assert(
        fc.asyncProperty(steps, async ({ ask, away, rowCount, lag, seals, knowledge, keeps }) => {
          asked += 1;
          // Rows come in their order; the last hour with rows stays open, and often some before it.
          const due = Math.floor((sealing.length * asked) / runs) - written;
          const more = sealing.slice(written, written + (due > 0 ? due + rowCount : 0));
          await writeEventRows(audit, more);
          written += more.length;
          const open = hourOf(timeOf(written) === Infinity ? timeOf(written - 1) : timeOf(Math.max(0, written - 1)));
          const to = open - lag * hourMs;
          if (seals && written > 0 && (sealedTo === null || to > sealedTo)) {
            // One bounded call: an old history is sealed in pieces.
            sealedTo = (await sealHours(audit, growing, { from: sealedTo, to }, 60)).sealed_to;
          }
          const knows = { all: sealedTo, less: sealedTo === null ? null : sealedTo - (1 + lag) * hourMs, none: null, "too much": (sealedTo ?? epoch) + (1 + lag) * hourMs }[knowledge]; // prettier-ignore
          const now = (written === 0 ? epoch : timeOf(written - 1)) + away;
          const query = askText(ask);
          const plan = planQuery(parsePql(query), query, now);
          if (isBySlots(plan, knows)) usedTemplates.set(plan.template, (usedTemplates.get(plan.template) ?? 0) + 1);
          const question = { tenant_id: growing, now, query, sealed_to: knows };
          const found = await askPql(app, question, { ...askLimits, page_rows: 2_000 }, keeps ? kept : undefined);
          expect(found).toEqual(reference(sealing.slice(0, written), ask, now));
          // A second oracle costs as much again: in the short run it is asked every third time.
          const also = found.kind === "groups" && (deep || asked % 3 === 0) ? found : null;
          expect(also && countedOf(also)).toEqual(also && (await duck.count(ask, now, written)));
        }),
        { numRuns: runs, seed: deep ? Number(process.env["MAESTRO_SEED"] ?? 20_260_414) : 1923, endOnFailure: true },
      );
    } finally {
      duck.close();
    }
    expect(written).toBe(sealing.length);
  },
);

test("the questions above were answered from rows of counts, mostly", () => {
  for (const template of ["buckets", "top", "top_buckets"]) {
    expect([template, (usedTemplates.get(template) ?? 0) > Math.min(20, runs / 20)]).toEqual([template, true]);
  }
});

test("no answer differs while sealing runs", { timeout }, async () => {
  const all = sealing.map((row) => ({ ...row, tenant_id: standing }));
  await writeEventRows(audit, all);
  const to = epoch + 4 * dayMs;
  let known: number | null = null;
  let isSealing = true;
  const seal = async (): Promise<void> => {
    while (known === null || known < to) {
      const answered: number = (await sealHours(audit, standing, { from: known, to }, 25)).sealed_to;
      known = answered;
    }
    isSealing = false;
  };
  let meanwhile = 0;
  const question = async ({ ask, now }: { readonly ask: Ask; readonly now: number }): Promise<void> => {
    // What the meter says may be old by the time that the question is asked, never new.
    const sealed_to = known;
    if (isSealing) meanwhile += 1;
    const found = await askPql(
      app,
      { tenant_id: standing, now, query: askText(ask), sealed_to },
      { ...askLimits, page_rows: 2_000 },
    );
    expect(found).toEqual(reference(all, ask, now));
  };
  const questions = fc.sample(
    fc.record({ ask: keptAsks, now: spreadTimes.map((time) => Math.min(time, epoch + 3 * dayMs + 1)) }),
    { seed: 1924, numRuns: deep ? 2_000 : 120 },
  );
  const asking = async (from: number): Promise<void> => {
    for (let at = from; at < questions.length; at += 3) await question(questions[at]!);
  };
  await Promise.all([seal(), asking(0), asking(1), asking(2)]);
  expect(meanwhile).toBeGreaterThan(20);
});

test(
  "a name that the sealed hours have seldom leads by the events since, whatever was kept of it",
  { timeout },
  async () => {
    const tenant = tenantNumber(0xd23);
    const nameOf = (number: number): string => `tools/p${String(number).padStart(4, "0")}`;
    const decision = { type: "mc.policy.decision", outcome: "deny" } as const;
    // More names than are listed; the first twenty of them more than once.
    const sealed = Array.from({ length: 1_400 }, (_, at) => (at < 1_200 ? at : (at - 1_200) % 20)).map((name, seq) =>
      rowOf(tenant, seq, {
        ...decision,
        package: nameOf(name),
        logged_at: new Date(epoch + seq * 1_000).toISOString(),
      }),
    );
    const open = [1_150, 1_150, 15, 15, 15, 15, 3, 999].map((name, at) =>
      rowOf(tenant, sealed.length + at, {
        ...decision,
        package: nameOf(name),
        logged_at: new Date(epoch + hourMs + at * 1_000).toISOString(),
      }),
    );
    await writeEventRows(audit, [...sealed, ...open]);
    const { sealed_to } = await sealHours(audit, tenant, { from: null, to: epoch + hourMs });
    const kept = new SealedCache();
    const every = ["BUCKET BY 5m TOP 1", "BUCKET BY 5m TOP 2", "BUCKET BY 1h TOP 13", "TOP 3", "TOP 100"];
    // Of the last two the first bucket is in the middle of the sealed hour, where who is listed need not be who leads.
    const times = [[2 * 60, 1], [62, 10], [62, 20]] as const; // prettier-ignore
    for (const [clauses, [minutes, after]] of every.flatMap((each) => times.map((time) => [each, time] as const))) {
      const query = `FIND decisions ${clauses} BY package SINCE ${minutes}m`;
      const question = { tenant_id: tenant, now: epoch + hourMs + after * 60_000, query };
      const found = await askPql(app, { ...question, sealed_to }, askLimits, kept);
      const again = await askPql(app, { ...question, sealed_to }, askLimits, kept);
      expect([query, found]).toEqual([query, await askPql(app, question)]);
      expect([query, again]).toEqual([query, found]);
    }
  },
);

test("more names in buckets of what is not sealed than a worker may hold are refused, and as many are answered", async () => {
  const query = "FIND events BUCKET BY 5m TOP 2 BY package SINCE 24h";
  const question = { tenant_id: standing, now: epoch + dayMs + hourMs, query, sealed_to: epoch + dayMs };
  const ask = (open_cells_max: number): Promise<PqlAnswer> => askPql(app, question, { ...askLimits, open_cells_max });
  const answer = await ask(1_000);
  expect(answer).toEqual(await askPql(app, { ...question, sealed_to: null }));
  let fewest = 0;
  while (
    !(await ask(fewest).then(
      () => true,
      () => false,
    ))
  )
    fewest += 1;
  expect(fewest).toBeGreaterThan(2);
  await expect(ask(fewest - 1)).rejects.toMatchObject({ code: "too_many_rows", members: { cells_max: fewest - 1 } });
  expect(await ask(fewest)).toEqual(answer);
});

test("of a question whose sealed hours were read, the next one reads the events since, in one round trip", async () => {
  const batches: number[] = [];
  const counting = new Proxy(app, {
    get(target, name) {
      if (name !== "batch") return Reflect.get(target, name) as unknown;
      return (statements: Parameters<typeof app.batch>[0]) => {
        batches.push(statements.length);
        return target.batch(statements);
      };
    },
  });
  const kept = new SealedCache();
  const question = { tenant_id: standing, query: "FIND decisions BUCKET BY 5m TOP 2 BY package SINCE 24h" };
  const sealed_to = epoch + 2 * dayMs;
  const ask = (now: number): Promise<PqlAnswer> => askPql(counting, { ...question, now, sealed_to }, askLimits, kept);
  const [first, later] = [await ask(sealed_to + 1_000), await ask(sealed_to + 2_000)];
  expect(batches).toHaveLength(2);
  expect(batches[1]).toBe(batches[0]! - 1);
  expect({ ...later, covers: null }).toEqual({ ...first, covers: null });
  // Its first bucket is another one, and then in another hour.
  const moved = sealed_to + 301_000;
  expect(await ask(moved)).toEqual(await askPql(app, { ...question, now: moved }));
  expect(batches.slice(2)).toEqual([batches[1]]);
  await ask(sealed_to + hourMs);
  expect(batches[3]).toBe(batches[0]);
});
