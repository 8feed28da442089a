import { runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { afterEach, beforeEach, expect, test } from "vitest";
import { probe } from "./drain-probe.ts";

interface Drain {
  nudge(): Promise<void>;
  sweep(): Promise<void>;
}
const namespace = (env as unknown as { DRAIN_PROBE: DurableObjectNamespace }).DRAIN_PROBE;
let shard = 0;
let stub: DurableObjectStub & Drain;

const row = (id: number) => ({ id: String(id), body: `{"id":${id}}` });
const sentIds = (): number[] =>
  probe.sent.flatMap((message) => (JSON.parse(message) as { id: number }[]).map(({ id }) => id));
const alarmAt = (): Promise<number | null> => runInDurableObject(stub, (_, state) => state.storage.getAlarm());

beforeEach(() => {
  Object.assign(probe, { rows: [], sent: [], queueIsUp: true, databaseIsUp: true, sendMs: 0, rests: [] });
  stub = namespace.getByName(String((shard += 1))) as unknown as DurableObjectStub & Drain;
});
afterEach(async () => {
  await runInDurableObject(stub, (_, state) => state.storage.deleteAlarm());
});

test("a nudge drains at once, and leaves an alarm behind", async () => {
  probe.rows = [row(1), row(2)];
  await stub.nudge();
  expect(sentIds()).toEqual([1, 2]);
  expect(probe.rows).toEqual([]);
  expect(await alarmAt()).not.toBeNull();
});

test("while the queue is down the outbox keeps every event, and the alarm sends them once it is back", async () => {
  probe.queueIsUp = false;
  probe.rows = [row(1), row(2)];
  await stub.nudge();
  await runDurableObjectAlarm(stub);
  expect(probe.rows).toHaveLength(2);
  probe.queueIsUp = true;
  expect(await runDurableObjectAlarm(stub)).toBe(true);
  expect(sentIds()).toEqual([1, 2]);
  expect(probe.rows).toEqual([]);
});

test("a nudge never fails its caller, also while the database is down, and the alarm stays armed", async () => {
  probe.databaseIsUp = false;
  await expect(stub.nudge()).resolves.toBeUndefined();
  expect(await alarmAt()).not.toBeNull();
});

test("an event committed while a drain runs goes with that drain, if its nudge comes meanwhile", async () => {
  probe.rows = [row(1)];
  probe.sendMs = 100;
  const first = stub.nudge();
  await scheduler.wait(30);
  probe.rows = [...probe.rows, row(2)];
  await Promise.all([first, stub.nudge()]);
  expect(sentIds()).toEqual([1, 2]);
});

test("the cron arms a drain that has no alarm, and leaves one that has", async () => {
  await stub.sweep();
  const armed = await alarmAt();
  expect(armed).not.toBeNull();
  await stub.nudge();
  const later = await alarmAt();
  await stub.sweep();
  expect(await alarmAt()).toBe(later);
});

test("under load a pass waits for company; a few events at a time wait for nothing", async () => {
  probe.rows = [row(1), row(2)];
  await stub.nudge();
  probe.rows = Array.from({ length: 60 }, (_, at) => row(10 + at));
  await stub.nudge();
  expect(probe.rests).toEqual([]);
  probe.rows = [row(100)];
  await stub.nudge();
  expect(probe.rests).toHaveLength(1);
  expect(probe.rests[0]).toBeLessThanOrEqual(50);
  probe.rows = [row(101)];
  await stub.nudge();
  expect(probe.rests).toHaveLength(1);
  expect(sentIds().slice(-2)).toEqual([100, 101]);
});
