// Counts of sealed hours and of the events since, put together: what counting them all at once gives.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { anyText } from "../../test/support/any-text.ts";
import type { Group } from "./answer.ts";
import { parsePql } from "./parse.ts";
import { planQuery, type Plan } from "./plan.ts";
import {
  byCodePoint,
  combined,
  sealedCounts,
  type OpenCell,
  type SealedCounts,
  type SealedRow,
} from "./sealed-counts.ts";

const now = Date.UTC(2026, 3, 13, 12);
const sealedTo = now;
type GroupsPlan = Exclude<Plan, { readonly template: "rows" }>;
const planOf = (query: string): GroupsPlan => planQuery(parsePql(query), query, now) as GroupsPlan;

/** Few names, so that they tie; a pair of surrogates, and what sorts around it. */
const names = fc.constantFrom(null, "", "a", "a0", "b", "\ud83d\ude00", "\ud83d\ude01", "\uffee", "z");
const cells = fc.array(fc.tuple(fc.integer({ min: 0, max: 11 }), names, fc.integer({ min: 1, max: 5 })), {
  maxLength: 30,
});

/** UTF-8, as Postgres compares it. */
function inUtf8(left: string | null, right: string | null): number {
  if (left === null || right === null) return Number(left === null) - Number(right === null);
  return Buffer.compare(Buffer.from(left), Buffer.from(right));
}

function counted(plan: GroupsPlan, all: readonly OpenCell[]): Group[] {
  const byName = new Map<string | null, number[]>();
  for (const [bucket, name, count] of all) {
    const counts = byName.get(name) ?? Array.from({ length: 12 }, () => 0);
    counts[bucket]! += count;
    byName.set(name, counts);
  }
  const sum = (counts: readonly number[]): number => counts.reduce((left, right) => left + right, 0);
  const ranked = [...byName].sort(([a, left], [b, right]) => sum(right) - sum(left) || inUtf8(a, b));
  const top = plan.template === "buckets" ? 0 : plan.top;
  const rest = ranked.slice(top).reduce(
    (left, [, counts]) => left.map((count, at) => count + counts[at]!),
    Array.from({ length: 12 }, () => 0),
  );
  const groupOf = (rank: number | null, name: string | null, counts: readonly number[]): Group => {
    return { rank, name, counts: "bucket_ms" in plan ? counts : [sum(counts)] };
  };
  return [
    ...ranked.slice(0, top).map(([name, counts], at) => groupOf(at + 1, name, counts)),
    groupOf(null, null, rest),
  ];
}

/** As Postgres answers a `sealed_…` template that lists so many names and so many series. */
function rowsOf(plan: GroupsPlan, sealed: readonly OpenCell[], listed: number, series: number): SealedRow[] {
  const everyone = { ...plan, top: 1_000 } as GroupsPlan;
  const ranked = counted(everyone, sealed).filter(({ rank }) => rank !== null);
  const total = ({ counts }: Group): number => counts.reduce((sum, count) => sum + count, 0);
  const secondsOf = (bucket: number): number => plan.from / 1000 + bucket * 3_600;
  const cellsOf = ({ counts }: Group): SealedRow["cells"] => {
    const filled = [...counts.entries()].filter(([, count]) => count > 0);
    return [filled.map(([bucket]) => secondsOf(bucket)), filled.map(([, count]) => count)];
  };
  const [every] = counted({ ...plan, template: "buckets", bucket_ms: 3_600_000 }, sealed);
  const totals: SealedRow = {
    rank: null,
    name: null,
    cells: ranked.slice(0, listed).map((group) => [group.name, total(group)] as const),
    names: ranked.length,
    sum: ranked.reduce((sum, group) => sum + total(group), 0),
  };
  if (plan.template === "top") return [totals];
  const rest = { names: null, sum: null };
  return [
    totals,
    { rank: 0, name: null, cells: cellsOf(every!), ...rest },
    ...ranked.slice(0, series).map((group) => ({ rank: group.rank, name: group.name, cells: cellsOf(group), ...rest })),
  ];
}

/** Behind a series' end is 0. */
const padded = ({ counts, ...group }: Group): Group => ({
  ...group,
  counts: Array.from({ length: 12 }, (_, at) => counts[at] ?? 0),
});

/** `asked` begins `skipped` buckets behind what is read of sealed hours. */
function together(
  asked: GroupsPlan,
  sealed: readonly OpenCell[],
  open: readonly OpenCell[],
  listed: number,
  more: number,
  skipped = 0,
) {
  const plan = { ...asked, from: asked.from - skipped * 3_600_000 };
  const top = "top" in plan ? plan.top : 0;
  const of = (known: SealedCounts) => combined(asked, known, open, skipped);
  const first = sealedCounts(plan, sealedTo, rowsOf(plan, sealed, Math.max(listed, top), top + more));
  const answer = of(first);
  if (answer.state !== "missing") return { answer, first, asked: 0 };
  // Of the names that are missing, whatever their rank is.
  const wanted = sealed.filter(([, name]) => answer.names.includes(name));
  const [totals, , ...series] = rowsOf({ ...plan, top: 1_000 } as GroupsPlan, wanted, 1_000, 1_000);
  const none = answer.names
    .filter((name) => !wanted.some(([, other]) => other === name))
    .map((name) => [name, 0] as const);
  const more_totals = { ...totals!, cells: [...totals!.cells, ...none] as SealedRow["cells"], names: null, sum: null };
  return {
    answer: of(sealedCounts(plan, sealedTo, [more_totals, ...series], first)),
    first,
    asked: answer.names.length,
  };
}

const byBucket = [
  "FIND events BUCKET BY 1h SINCE 11h",
  "FIND events BUCKET BY 1h TOP 1 BY package SINCE 11h",
  "FIND events BUCKET BY 1h TOP 3 BY package SINCE 11h",
  "FIND events BUCKET BY 1h TOP 100 BY package SINCE 11h",
];

describe.each([...byBucket, "FIND events TOP 2 BY package SINCE 11h"])("%s", (query) => {
  const plan = planOf(query);

  test("what was sealed and what was not is what all of it together is, however few names were listed", () => {
    let missed = 0;
    fc.assert(
      fc.property(
        cells,
        cells,
        fc.integer({ min: 0, max: 12 }),
        fc.constantFrom(0, 1, 10),
        (sealed, drawn, listed, more) => {
          // Without buckets all that was counted is in one.
          const open = drawn.map(([bucket, name, count]): OpenCell => ["bucket_ms" in plan ? bucket : 0, name, count]);
          const { answer, asked } = together(plan, sealed, open, listed, more);
          missed += asked;
          expect(answer.state === "groups" && answer.groups.map(padded)).toEqual(
            counted(plan, [...sealed, ...open]).map(padded),
          );
        },
      ),
      { numRuns: process.env["MAESTRO_DEEP"] === "1" ? 20_000 : 150, seed: 1_925 },
    );
    expect(missed > 0).toBe(!query.includes("100") && query.includes("TOP"));
  });

  test("what is kept is not changed by the questions that it answers", () => {
    const sealed: OpenCell[] = [
      [0, "a", 3],
      [1, "b", 2],
      [1, null, 2],
    ];
    const open: OpenCell[] = [
      [11, "b", 5],
      [11, "c", 1],
    ];
    const { first } = together(plan, sealed, open, 10, 10);
    const before = structuredClone(first);
    const answers = [1, 2].map(() => combined(plan, first, open));
    expect(answers[0]).toEqual(answers[1]);
    expect(first).toEqual(before);
  });
});

test.each(byBucket)("%s: counts that begin some buckets earlier give the same, or say that they cannot", (query) => {
  const plan = planOf(query);
  let missed = 0;
  let unlisted = 0;
  fc.assert(
    fc.property(
      cells,
      cells,
      fc.integer({ min: 1, max: 11 }),
      fc.integer({ min: 0, max: 12 }),
      fc.constantFrom(0, 1, 10),
      (sealed, open, skipped, listed, more) => {
        const { answer, asked } = together(plan, sealed, open, listed, more, skipped);
        missed += asked;
        unlisted += Number(answer.state === "unlisted");
        fc.pre(answer.state !== "unlisted");
        const own = sealed
          .filter(([bucket]) => bucket >= skipped)
          .map(([bucket, name, count]): OpenCell => [bucket - skipped, name, count]);
        expect(answer.state === "groups" && answer.groups.map(padded)).toEqual(
          counted(plan, [...own, ...open]).map(padded),
        );
      },
    ),
    { numRuns: process.env["MAESTRO_DEEP"] === "1" ? 20_000 : 150, seed: 1_927 },
  );
  const isShort = !query.includes("100") && query.includes("TOP");
  expect([missed > 0, unlisted > 0]).toEqual([isShort, isShort]);
});

test("a name that is not listed may be as large as the smallest leader without the first buckets, and come before it", () => {
  const plan = planOf("FIND executions BUCKET BY 1h TOP 2 BY package SINCE 11h");
  // `z` is listed for its first bucket alone; without it `c` has as many, and comes first.
  const sealed: OpenCell[] = [
    [0, "z", 2],
    [1, "z", 3],
    [1, "b", 3],
    [1, "c", 3],
  ];
  expect(together(plan, sealed, [], 2, 0, 1).answer.state).toBe("unlisted");
  expect(together(plan, sealed, [], 3, 10, 1).answer).toMatchObject({
    state: "groups",
    groups: [{ name: "b" }, { name: "c" }, { rank: null }],
  });
});

test("names are in the order of their UTF-8, the missing one last", () => {
  const text = fc.oneof(names, anyText(4));
  fc.assert(
    fc.property(text, text, (left, right) => {
      expect(Math.sign(byCodePoint(left, right))).toBe(Math.sign(inUtf8(left, right)));
    }),
    { numRuns: process.env["MAESTRO_DEEP"] === "1" ? 2_000 : 400, seed: 1_926 },
  );
});
