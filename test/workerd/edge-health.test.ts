// The EdgeHealth object as it is deployed, with itty-durable's way of keeping it: what outlives the object, what a crash leaves, and
// that the largest board fits into its one value.

import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { expect, test } from "vitest";
import { boardBounds, type FleetPort } from "../../shared/edge/fleet-board.ts";
import { eventsPerHour } from "../../shared/edge/fleet-events.ts";
import { fetcherIdOf, policyOf, reportOf, type ReportOptions } from "../support/fleet.ts";

type Board = DurableObjectStub & FleetPort;
const namespace = (env as unknown as { EDGE_HEALTH: DurableObjectNamespace }).EDGE_HEALTH;
const principal = "pri_01k9x6f6c8a0b1c2d3e4f5g6h7";
let count = 0;
const open = (): Board =>
  namespace.getByName(`00000000-0000-4000-9000-${String((count += 1)).padStart(12, "0")}`) as unknown as Board;
const send = (board: Board, options: ReportOptions = {}) =>
  board.report(principal, reportOf({ now: Date.now(), ...options }));
const idsOf = async (board: Board): Promise<string[]> =>
  (await board.view()).instances.map(({ report }) => report.instance);

/** Everything that it ever told the log, in order: rows that were sent are gone from the outbox. */
const toldIn = (board: Board): Promise<{ instance: string; provider: string; mismatches: number }[]> =>
  runInDurableObject(board, (_, state) =>
    state.storage.sql
      .exec<{ instance: string; provider: string; mismatches: number }>(
        "select instance, provider, mismatches from told order by rowid",
      )
      .toArray(),
  );
const countedEvents = (board: Board): Promise<number> =>
  runInDurableObject(
    board,
    (_, state) =>
      state.storage.sql.exec<{ n: number }>("select coalesce(max(source_seq), 0) as n from source_counter").one().n,
  );

test("what was kept by its alarm is there after the object was evicted, with counters that go on", async () => {
  const board = open();
  await send(board, { counts: { fetches: 5 }, mismatches: { a: 0 } });
  expect(await runDurableObjectAlarm(board)).toBe(true);
  await evictDurableObject(board);
  await send(board, { boot: 2, counts: { fetches: 2 }, mismatches: { a: 0 } });
  const [instance] = (await board.view()).instances;
  expect(instance).toMatchObject({
    report: { boot: 2 },
    totals: { counts: { fetches: 7 }, providers: { a: { cache_hits: 18 } } },
  });
});

test("after a crash before it was kept, the next report says everything anew, and nothing is told twice", async () => {
  const board = open();
  await send(board, { mismatches: { a: 0, b: 2 } });
  // As if the crash had come before the put: the alarm comes at once where an event waits.
  await runInDurableObject(board, async (_, state) => {
    await state.storage.deleteAlarm();
    await state.storage.delete("data");
  });
  await evictDurableObject(board);
  expect(await idsOf(board)).toEqual([]);
  expect(await send(board, { sequence: 2, mismatches: { a: 0, b: 3 } })).toMatchObject({ outcome: "noted" });
  expect(await idsOf(board)).toEqual([fetcherIdOf(1)]);
  expect(await toldIn(board)).toEqual([
    { instance: fetcherIdOf(1), provider: "", mismatches: 0 },
    { instance: fetcherIdOf(1), provider: "b", mismatches: 2 },
  ]);
  expect(await countedEvents(board)).toBe(2);
});

test("events go out by the alarm, which comes to rest", async () => {
  const board = open();
  await send(board);
  const waiting = (): Promise<number> =>
    runInDurableObject(
      board,
      (_, state) => state.storage.sql.exec<{ n: number }>("select count(*) as n from outbox").one().n,
    );
  for (let tries = 0; tries < 5 && (await runDurableObjectAlarm(board)); tries += 1);
  expect(await waiting()).toBe(0);
  expect(await runInDurableObject(board, (_, state) => state.storage.getAlarm())).toBeNull();
});

test("many new instances tell the log no more than its share, and the rest later", async () => {
  const board = open();
  for (let instance = 1; instance <= eventsPerHour + 10; instance += 1) await send(board, { instance });
  expect(await idsOf(board)).toHaveLength(eventsPerHour + 10);
  expect(await countedEvents(board)).toBe(eventsPerHour);
  expect(await toldIn(board)).toHaveLength(eventsPerHour);
});

test("one that is forgotten stays so, and appears again when it reports", async () => {
  const board = open();
  await send(board, { instance: 1 });
  await send(board, { instance: 2 });
  const forget = (instance: number, intent: string | null = null): Promise<boolean> =>
    board.forget(principal, fetcherIdOf(instance), intent);
  const answers = [await forget(1, "first"), await forget(1, "first"), await forget(1, "other"), await forget(9)];
  expect(answers).toEqual([true, true, false, false]);
  await evictDurableObject(board);
  expect(await idsOf(board)).toEqual([fetcherIdOf(2)]);
  await send(board, { instance: 1, sequence: 2 });
  // Two appeared, one was forgotten, and appeared again.
  expect(await countedEvents(board)).toBe(4);
});

test("the largest board is kept as one value, and read back", async () => {
  const board = open();
  const policies = Array.from({ length: 9 }, (_, at) => policyOf(1, { policy: `${"p".repeat(60)}${at}` }));
  const outcomes: string[] = [];
  for (let instance = 1; instance <= boardBounds.instancesMax; instance += 1)
    outcomes.push((await send(board, { instance, policies })).outcome);
  expect(outcomes.at(-1)).toBe("full");
  const ids = await idsOf(board);
  await runDurableObjectAlarm(board);
  await evictDurableObject(board);
  expect(await idsOf(board)).toEqual(ids);
});

test("nothing of the platform is kept with it", async () => {
  const board = open();
  await send(board);
  await runDurableObjectAlarm(board);
  const kept = await runInDurableObject(board, (_, state) => state.storage.get<Record<string, unknown>>("data"));
  expect(Object.keys(kept ?? {}).toSorted()).toEqual(["gone", "instances"]);
});
