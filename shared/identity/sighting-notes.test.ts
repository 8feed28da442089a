// Which SVIDs are noted, and which are not: a flood of requests makes no flood of rows.

import { expect, test } from "vitest";
import { noteEveryMs, SightingNotes, type Sighting } from "./sighting-notes.ts";

const sighting = (id: string, kid = "a".repeat(64)): Sighting => ({
  tenant_id: "t",
  spiffe_id: `spiffe://td.example/${id}`,
  slot: "jwt",
  kid,
});

function notesWorld() {
  const kept: { id: string; kid: string; at: number; floor: number }[] = [];
  const waiting: (() => Promise<void>)[] = [];
  const world = { fails: false, lost: 0 };
  const notes = new SightingNotes({
    keep: ({ spiffe_id: id, kid }, at, floor) => {
      if (world.fails) return Promise.reject(new Error("no database"));
      kept.push({ id: id.slice(20), kid: kid.slice(0, 1), at, floor });
      return Promise.resolve();
    },
    later: (work) => void waiting.push(work),
    onLost: () => (world.lost += 1),
  });
  const settle = async (): Promise<void> => {
    for (const work of waiting.splice(0)) await work();
  };
  return { notes, kept, world, settle };
}

test("a thousand requests of one workload are one note in ten minutes; another authority is one at once", async () => {
  const { notes, kept, settle } = notesWorld();
  for (let count = 0; count < 1_000; count += 1) notes.note(sighting("one"), null, 1_000_000 + count);
  await settle();
  notes.note(sighting("one", "b".repeat(64)), null, 1_000_500);
  notes.note(sighting("one"), null, 1_000_000 + noteEveryMs - 1);
  notes.note(sighting("one"), null, 1_000_000 + noteEveryMs);
  await settle();
  expect(kept.map(({ kid, at }) => [kid, at])).toEqual([
    ["a", 1_000_000],
    ["b", 1_000_500],
    ["a", 1_000_000 + noteEveryMs],
  ]);
});

test("what was not noted since the domain came to be watched is noted at once, and once, also over a young row", async () => {
  const { notes, kept, settle } = notesWorld();
  notes.note(sighting("one"), null, 5_000_000);
  for (const now of [5_000_100, 5_000_200]) notes.note(sighting("one"), 5_000_050, now);
  await settle();
  expect(kept.map(({ at, floor }) => [at, floor])).toEqual([
    [5_000_000, 4_700_000],
    [5_000_100, 5_000_050],
  ]);
});

test("at most eight notes are under way; what found no room, and what was lost, is noted by the next request", async () => {
  const { notes, kept, world, settle } = notesWorld();
  for (let at = 0; at < 20; at += 1) notes.note(sighting(`w${at}`), null, 1_000);
  world.fails = true;
  await settle();
  expect([kept.length, world.lost]).toEqual([0, 8]);
  world.fails = false;
  for (let round = 0; round < 3; round += 1) {
    for (let at = 0; at < 20; at += 1) notes.note(sighting(`w${at}`), null, 1_001);
    await settle();
  }
  expect([new Set(kept.map(({ id }) => id)).size, kept.length]).toEqual([20, 20]);
});
