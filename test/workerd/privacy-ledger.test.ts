import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { expect, test } from "vitest";
import { leaseMs, type LedgerPort } from "../../shared/privacy/ledger.ts";

const namespace = (env as unknown as { PRIVACY_LEDGER: DurableObjectNamespace }).PRIVACY_LEDGER;
const principal = `pri_${"0".repeat(26)}`;
const executionId = (n: number): string => `exe_${String(n).padStart(26, "0")}`;
const request = (n: number, units: number) => ({
  intent: `intent-${n}`,
  payload_sha256: "a".repeat(64),
  execution_id: executionId(n),
  units,
});
let count = 0;
const open = () => {
  const id = `00000000-0000-4000-8000-${String((count += 1)).padStart(12, "0")}`;
  return namespace.getByName(id) as unknown as DurableObjectStub & LedgerPort;
};
const waiting = (stub: DurableObjectStub): Promise<number> =>
  runInDurableObject(stub, (_, state) => state.storage.sql.exec("select id from outbox").toArray().length);

test("what was reserved and settled is there after the object was evicted", async () => {
  const ledger = open();
  await ledger.configure(principal, 100, 0, null);
  await ledger.reserve(principal, request(1, 60));
  await ledger.reserve(principal, request(2, 30));
  await ledger.settle(executionId(1));
  await evictDurableObject(ledger);
  expect(await ledger.balance()).toEqual({
    limit_units: 100,
    leak_units_per_hour: 0,
    spent_units: 60,
    held_units: 30,
    remaining_units: 10,
  });
});

test("a budget's intent is known after an eviction, with what it set", async () => {
  const ledger = open();
  expect(await ledger.configure(principal, 100, 5, "intent")).toMatchObject({ limit_units: 100 });
  await evictDurableObject(ledger);
  expect(await ledger.configure(principal, 100, 5, "intent")).toMatchObject({ limit_units: 100 });
  expect(await ledger.configure(principal, 200, 5, "intent")).toBeNull();
});

test("fifty runs at once never hold more than the budget", async () => {
  const ledger = open();
  await ledger.configure(principal, 100, 0, null);
  const answers = await Promise.all(Array.from({ length: 50 }, (_, n) => ledger.reserve(principal, request(n, 7))));
  expect(answers.filter(({ state }) => state === "reserved")).toHaveLength(14);
  expect(await ledger.balance()).toMatchObject({ held_units: 98, remaining_units: 2 });
});

test("its alarm hands its events to the queue, each once", async () => {
  const ledger = open();
  await ledger.configure(principal, 100, 0, null);
  await ledger.reserve(principal, request(1, 60));
  await runDurableObjectAlarm(ledger);
  await expect.poll(() => waiting(ledger)).toBe(0);
});

test("a lease that ends while Postgres is down is neither refunded nor spent: it is asked again later", async () => {
  const ledger = open();
  await ledger.configure(principal, 100, 0, null);
  await ledger.reserve(principal, request(1, 60));
  await runInDurableObject(ledger, async (_, state) => {
    state.storage.sql.exec("update reservation set lease_until_ms = ?", Date.now() - leaseMs);
    await state.storage.setAlarm(Date.now() + 60_000);
  });
  await runDurableObjectAlarm(ledger);
  expect(await ledger.balance()).toMatchObject({ held_units: 60, spent_units: 0 });
  const next = await runInDurableObject(ledger, (_, state) => state.storage.getAlarm());
  expect(next).not.toBeNull();
  expect(next!).toBeGreaterThan(Date.now());
});
