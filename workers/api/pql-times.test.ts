// Times of questions are told together, each once, and never hold up an answer.

import { expect, test } from "vitest";
import { queryTimesMax, type QueryTime } from "../../shared/pql/query-times.ts";
import { QueryTimeNotes } from "./pql-times.ts";

const time = (ms: number): QueryTime => ({ template: "top", outcome: "ok", ms });

function world() {
  const told: [tenant: string, ms: number[]][] = [];
  const work: Promise<void>[] = [];
  let wake = (): void => {};
  let waiting = new Promise<void>((resolve) => (wake = resolve));
  const notes = new QueryTimeNotes({
    later: (job) => void work.push(job()),
    pause: () => waiting,
    tell: async (tenant, times) => void told.push([tenant, times.map(({ ms }) => ms)]),
  });
  const second = async (): Promise<void> => {
    wake();
    await Promise.all(work);
    waiting = new Promise<void>((resolve) => (wake = resolve));
  };
  return { notes, told, work, second };
}

test("what a tenant asked within a second is told at once, and nothing twice", async () => {
  const { notes, told, work, second } = world();
  notes.note("a", time(1));
  notes.note("b", time(2));
  notes.note("a", time(3));
  expect(work).toHaveLength(2);
  await second();
  notes.note("a", time(4));
  await second();
  expect(told).toEqual([
    ["a", [1, 3]],
    ["b", [2]],
    ["a", [4]],
  ]);
});

test("what waits is bounded: so many as one call takes", async () => {
  const { notes, told, second } = world();
  for (let ms = 0; ms < queryTimesMax + 50; ms += 1) notes.note("a", time(ms));
  await second();
  expect(told[0]![1]).toHaveLength(queryTimesMax);
});
