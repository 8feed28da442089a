// Times of questions are told together, each once, and never hold up an answer.

import { expect, test } from "vitest";
import { queryTimesMax, type QueryTime } from "../../shared/pql/query-times.ts";
import { QueryTimeNotes } from "./pql-times.ts";

const time = (ms: number): QueryTime => ({ template: "top", outcome: "ok", ms });

function world() {
  const told: [tenant: string, ms: number[]][] = [];
  const work: Promise<void>[] = [];
  const pauses: number[] = [];
  let wake = (): void => {};
  let waiting = new Promise<void>((resolve) => (wake = resolve));
  const notes = new QueryTimeNotes({
    later: (job) => void work.push(job()),
    pause: (ms) => {
      pauses.push(ms);
      return waiting;
    },
    tell: async (tenant, times) => void told.push([tenant, times.map(({ ms }) => ms)]),
  });
  const rest = async (): Promise<void> => {
    wake();
    await Promise.all(work);
    waiting = new Promise<void>((resolve) => (wake = resolve));
  };
  return { notes, told, work, pauses, rest };
}

test("what a tenant asked within ten seconds is told at once, and nothing twice", async () => {
  const { notes, told, work, pauses, rest } = world();
  notes.note("a", time(1));
  notes.note("b", time(2));
  notes.note("a", time(3));
  expect(work).toHaveLength(2);
  expect(pauses).toEqual([10_000, 10_000]);
  await rest();
  notes.note("a", time(4));
  await rest();
  expect(told).toEqual([
    ["a", [1, 3]],
    ["b", [2]],
    ["a", [4]],
  ]);
});

test("what waits is bounded: so many as one call takes are told without waiting, and none is lost", async () => {
  const { notes, told, rest } = world();
  for (let ms = 0; ms < queryTimesMax + 50; ms += 1) notes.note("a", time(ms));
  expect(told.map(([, times]) => times.length)).toEqual([queryTimesMax]);
  await rest();
  expect(told.map(([, times]) => times.length)).toEqual([queryTimesMax, 50]);
});

test("who reads the metrics has what waits told first, of that tenant alone, and nothing twice", async () => {
  const { notes, told, rest } = world();
  notes.note("a", time(1));
  notes.note("b", time(2));
  await notes.tell("a");
  await notes.tell("a");
  expect(told).toEqual([["a", [1]]]);
  notes.note("a", time(3));
  await rest();
  expect(told.slice(1)).toEqual([
    ["a", [3]],
    ["b", [2]],
  ]);
});
