// The engine on the real Postgres against the reference in memory, on random questions over skewed rows: ties, missing
// values, instants on every edge. MC-PQL-1921: BUCKET BY and TOP K answer exactly.

import fc from "fast-check";
import { beforeAll, expect, test } from "vitest";
import type { PqlAnswer } from "../../shared/contract/http-pql.ts";
import { askPql } from "../../shared/pql/engine.ts";
import { PqlError } from "../../shared/pql/pql-error.ts";
import { askLimits, writeEventRows } from "../../shared/pql/store.ts";
import { useStack } from "../support/stack.ts";
import { asks, askText, editedTexts, instants, rowsOf } from "./pql-generator.ts";
import { reference } from "./pql-reference.ts";
import { connect, tenantNumber } from "./pql-support.ts";

const deep = process.env["MAESTRO_DEEP"] === "1";
/** 20,000 questions took four minutes on two cores. */
const timeout = deep ? 1_800_000 : 60_000;
const stack = useStack();
const app = connect(stack, "app");
const tenant = tenantNumber(0xd1f);
const stranger = tenantNumber(0xd20);

const rows = rowsOf(tenant, 1, 900);

beforeAll(async () => {
  const audit = connect(stack, "audit");
  await writeEventRows(audit, rows);
  await writeEventRows(audit, rowsOf(stranger, 2, 300));
});

/** The answer, all pages of rows joined. */
async function answer(query: string, now: number, pageRows: number): Promise<PqlAnswer> {
  const limits = { ...askLimits, page_rows: pageRows };
  const first = await askPql(app, { tenant_id: tenant, now, query }, limits);
  if (first.kind !== "rows") return first;
  const all = [...first.rows];
  let cursor = first.next_cursor;
  for (let page = 1; cursor !== null; page += 1) {
    // A later clock: the pages must stay in the range that the first one had.
    const next = await askPql(app, { tenant_id: tenant, now: now + page * 1000, query, cursor }, limits);
    if (next.kind !== "rows") throw new Error("a page is rows");
    expect(next.covers).toEqual(first.covers);
    expect(next.rows.length).toBeGreaterThan(0);
    all.push(...next.rows);
    cursor = next.next_cursor;
  }
  return { ...first, rows: all, next_cursor: null };
}

test("every answer is what a plain loop over the tenant's rows gives (MC-PQL-1921)", { timeout }, async () => {
  const questions = fc.record({
    ask: asks,
    now: fc.constantFrom(...instants),
    pageRows: fc.constantFrom(40, 250, 1000),
  });
  await fc.assert(
    fc.asyncProperty(questions, async ({ ask, now, pageRows }) => {
      expect(await answer(askText(ask), now, pageRows)).toEqual(reference(rows, ask, now));
    }),
    { numRuns: deep ? 20_000 : 90, seed: deep ? Number(process.env["MAESTRO_SEED"] ?? 20_260_413) : 1921 },
  );
});

test("the questions above are not empty ones: most of them find rows, and every clause occurs", async () => {
  const sample = fc.sample(fc.record({ ask: asks, now: fc.constantFrom(...instants) }), { seed: 1921, numRuns: 400 });
  const found = sample.filter(({ ask, now }) => {
    const expected = reference(rows, ask, now);
    return expected.kind === "rows" ? expected.rows.length > 0 : expected.total > 0;
  });
  expect(found.length).toBeGreaterThan(150);
  const templates = new Set(found.map(({ ask }) => `${ask.bucket !== null} ${ask.top !== null}`));
  expect(templates.size).toBe(4);
});

test(
  "whatever the planner lets through, Postgres can run: no query ends in an error of the database",
  { timeout },
  async () => {
    let ran = 0;
    await fc.assert(
      fc.asyncProperty(editedTexts, async (query) => {
        try {
          await askPql(app, { tenant_id: tenant, now: instants.at(-1)!, query });
          ran += 1;
        } catch (error) {
          if (!(error instanceof PqlError)) throw error;
        }
      }),
      { numRuns: deep ? 50_000 : 900, ...(deep ? {} : { seed: 1922 }) },
    );
    expect(ran).toBeGreaterThan(20);
  },
);
