import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { openSql } from "../../test/support/sqlite.ts";
import type { EventContext } from "../outbox/outbox.ts";
import { leaseMs, Ledger } from "./ledger.ts";

const start = Date.UTC(2026, 3, 13);
const hour = 3_600_000;
const at = (now: number): EventContext => ({
  tenant_id: "7f0c2d9e-5a53-4d2f-9a0b-2f6a1c9f0001",
  principal: null,
  source: "privacy",
  now,
  random: (count) => new Uint8Array(randomBytes(count)),
});
const executionId = (n: number): string => `exe_${String(n).padStart(26, "0")}`;
const request = (n: number, units: number, intent = `intent-${n}`) => ({
  intent,
  payload_sha256: "a".repeat(64),
  execution_id: executionId(n),
  units,
});

/** As the alarm does it: with the lease as it is now. */
function refund(ledger: Ledger, now: number, id: string) {
  const [lease] = ledger.due(Number.MAX_SAFE_INTEGER, 1_000).filter(({ execution_id }) => execution_id === id);
  return ledger.refund(at(now), lease ?? { execution_id: id, principal: null, lease_until_ms: 0 }, "lease_ended");
}

function open(limit = 100, leak = 0) {
  const sql = openSql(":memory:");
  const ledger = new Ledger(sql);
  ledger.configure(at(start), limit, leak, null);
  const events = (): { type: string; source_seq: number; attributes: Record<string, unknown> }[] =>
    sql.exec<{ body: string }>("select body from outbox order by id").map(({ body }) => JSON.parse(body));
  return { ledger, sql, events };
}

describe("reserve, settle, refund", () => {
  test("without a budget there is nothing to spend", () => {
    const ledger = new Ledger(openSql(":memory:"));
    expect(ledger.reserve(at(start), request(1, 1))).toMatchObject({
      state: "exceeded",
      units: 1,
      balance: { remaining_units: 0 },
    });
    expect(ledger.reserve(at(start), request(2, 0))).toMatchObject({ state: "reserved" });
  });

  test("a reservation is taken from what is left, and what does not fit is refused whole", () => {
    const { ledger } = open(100);
    expect(ledger.reserve(at(start), request(1, 60))).toMatchObject({ state: "reserved", remaining_units: 40 });
    expect(ledger.reserve(at(start), request(2, 41))).toMatchObject({
      state: "exceeded",
      units: 41,
      balance: { remaining_units: 40 },
    });
    expect(ledger.reserve(at(start), request(3, 40))).toMatchObject({ state: "reserved", remaining_units: 0 });
    expect(ledger.balance(start)).toMatchObject({ held_units: 100, spent_units: 0, remaining_units: 0 });
  });

  test("the same intent and payload reserve once; another payload under it is a conflict", () => {
    const { ledger } = open(100);
    const first = ledger.reserve(at(start), request(1, 60, "same"));
    const again = ledger.reserve(at(start + 5), { ...request(2, 60, "same") });
    expect(again).toMatchObject({ state: "reserved", execution_id: executionId(1) });
    expect(first).toMatchObject({ execution_id: executionId(1) });
    expect(ledger.balance(start).held_units).toBe(60);
    expect(ledger.reserve(at(start), { ...request(3, 60, "same"), payload_sha256: "b".repeat(64) })).toEqual({
      state: "conflict",
    });
  });

  test("settling spends once, refunding frees once, whichever came first stays", () => {
    const { ledger } = open(100);
    ledger.reserve(at(start), request(1, 60));
    expect(ledger.settle(at(start), executionId(1))).toBe("settled");
    expect(ledger.settle(at(start), executionId(1))).toBe("settled");
    expect(refund(ledger, start, executionId(1))).toBe("settled");
    expect(ledger.balance(start)).toMatchObject({ spent_units: 60, held_units: 0, remaining_units: 40 });
    ledger.reserve(at(start), request(2, 40));
    expect(refund(ledger, start, executionId(2))).toBe("refunded");
    expect(ledger.settle(at(start), executionId(2))).toBe("refunded");
    expect(ledger.balance(start).remaining_units).toBe(40);
    expect(ledger.settle(at(start), executionId(9))).toBe("unknown");
  });

  test("after a refund the same intent reserves anew, under a new execution id", () => {
    const { ledger } = open(100);
    ledger.reserve(at(start), request(1, 60, "same"));
    refund(ledger, start, executionId(1));
    expect(ledger.reserve(at(start), request(2, 60, "same"))).toMatchObject({ execution_id: executionId(2) });
  });

  test("each change tells one event, counted without a gap, and free runs tell none", () => {
    const { ledger, events } = open(100);
    ledger.reserve(at(start), request(1, 10));
    ledger.reserve(at(start), request(1, 10));
    ledger.settle(at(start), executionId(1));
    ledger.reserve(at(start), request(2, 10));
    refund(ledger, start, executionId(2));
    ledger.reserve(at(start), request(3, 0));
    ledger.settle(at(start), executionId(3));
    expect(events().map(({ type, source_seq }) => [type, source_seq])).toEqual([
      ["mc.privacy.budget_set", 1],
      ["mc.privacy.reserved", 2],
      ["mc.privacy.settled", 3],
      ["mc.privacy.reserved", 4],
      ["mc.privacy.refunded", 5],
    ]);
    expect(events()[3]?.attributes).toMatchObject({ units: 10, remaining_units: 80 });
  });
});

describe("leaking", () => {
  test("what was spent comes back linearly, rounded against the spender", () => {
    const { ledger } = open(100, 10);
    ledger.reserve(at(start), request(1, 100));
    ledger.settle(at(start), executionId(1));
    expect(ledger.balance(start + 1).remaining_units).toBe(0);
    expect(ledger.balance(start + hour / 10 - 1).remaining_units).toBe(0);
    expect(ledger.balance(start + hour / 10).remaining_units).toBe(1);
    expect(ledger.balance(start + 10 * hour).remaining_units).toBe(100);
    expect(ledger.balance(start + 1_000 * hour).remaining_units).toBe(100);
  });

  test("looking often leaks no more and no less than looking once", () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 500_000 }), { maxLength: 30 }),
        fc.integer({ min: 0, max: 997 }),
        (steps, leak) => {
          const often = open(1_000, leak).ledger;
          const once = open(1_000, leak).ledger;
          for (const ledger of [often, once]) {
            ledger.reserve(at(start), request(1, 1_000));
            ledger.settle(at(start), executionId(1));
          }
          let now = start;
          for (const step of steps) often.balance((now += step));
          expect(often.balance(now)).toEqual(once.balance(now));
        },
      ),
      { numRuns: 50 },
    );
  });

  test("a clock that steps back leaks nothing twice", () => {
    const { ledger } = open(100, 10);
    ledger.reserve(at(start), request(1, 100));
    ledger.settle(at(start), executionId(1));
    expect(ledger.balance(start + hour).remaining_units).toBe(10);
    expect(ledger.balance(start).remaining_units).toBe(10);
    expect(ledger.balance(start + hour).remaining_units).toBe(10);
  });
});

test("whatever is asked in whatever order, held and spent never exceed the limit", () => {
  const step = fc.oneof(
    fc.record({ do: fc.constant("reserve" as const), n: fc.nat(12), units: fc.nat(40), intent: fc.nat(6) }),
    fc.record({ do: fc.constant("settle" as const), n: fc.nat(12) }),
    fc.record({ do: fc.constant("refund" as const), n: fc.nat(12) }),
    fc.record({ do: fc.constant("wait" as const), ms: fc.nat(hour) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const { ledger } = open(100, 7);
      let now = start;
      let made = 0;
      const ids: string[] = [];
      for (const one of steps) {
        if (one.do === "wait") now += one.ms;
        else if (one.do === "reserve") {
          const reserved = ledger.reserve(at(now), request((made += 1), one.units, `i${one.intent}-${one.units}`));
          if (reserved.state === "reserved") ids[one.n] = reserved.execution_id;
        } else if (one.do === "settle") ledger.settle(at(now), ids[one.n] ?? executionId(999));
        else refund(ledger, now, ids[one.n] ?? executionId(999));
        const { spent_units: spent, held_units: held, remaining_units: left } = ledger.balance(now);
        expect(spent + held).toBeLessThanOrEqual(100);
        expect(left).toBe(100 - spent - held);
      }
    }),
    { numRuns: 200 },
  );
});

test("a lease that has ended is due, an extended one is not, and the object knows when to wake", () => {
  const { ledger } = open(100);
  expect(ledger.nextLease(start)).toBeNull();
  ledger.reserve(at(start), request(1, 10));
  ledger.reserve(at(start + 10), request(2, 10));
  expect(ledger.nextLease(start)).toBe(start + leaseMs);
  expect(ledger.due(start + leaseMs, 10).map(({ execution_id }) => execution_id)).toEqual([executionId(1)]);
  ledger.extend(executionId(1), start + hour);
  expect(ledger.due(start + leaseMs + 10, 10).map(({ execution_id }) => execution_id)).toEqual([executionId(2)]);
});

test("a reservation that a retry took up again is not refunded on the word of the lease before, nor shortened", () => {
  const { ledger } = open(100);
  ledger.reserve(at(start), request(1, 60, "same"));
  const [ended] = ledger.due(start + leaseMs, 10);
  // While Postgres is asked about the ended lease, the caller comes back with the same key.
  const again = ledger.reserve(at(start + leaseMs + 50), request(2, 60, "same"));
  expect(again).toMatchObject({
    state: "reserved",
    execution_id: executionId(1),
    admit_until_ms: start + leaseMs + 50 + 30_000,
  });
  expect(ledger.refund(at(start + leaseMs + 100), ended!, "lease_ended")).toBe("held");
  ledger.extend(executionId(1), start + leaseMs + 10_000);
  expect(ledger.nextLease(start)).toBe(start + leaseMs + 50 + leaseMs);
  expect(ledger.settle(at(start + leaseMs + 200), executionId(1))).toBe("settled");
  expect(ledger.balance(start + leaseMs + 200).spent_units).toBe(60);
});

test("the same intent sets a budget once, however late it is told again", () => {
  const { ledger, events } = open(100);
  ledger.configure(at(start + 1), 50, 0, "first");
  ledger.configure(at(start + 2), 70, 0, "second");
  expect(ledger.configure(at(start + 3), 50, 0, "first")?.limit_units).toBe(70);
  expect(events()).toHaveLength(3);
});

test("what is closed is known for its 48 hours, so that a late retry spends nothing again, and dropped then", () => {
  const { ledger, sql } = open(100);
  const kept = (): unknown => sql.exec("select execution_id from reservation").length;
  ledger.reserve(at(start), request(1, 60, "same"));
  ledger.settle(at(start), executionId(1));
  expect(ledger.nextLease(start + 48 * hour)).toBeNull();
  expect(kept()).toBe(1);
  const again = ledger.reserve(at(start + 24 * hour - 1), request(2, 60, "same"));
  expect(again).toMatchObject({ state: "reserved", execution_id: executionId(1) });
  expect(ledger.reserve(at(start + 24 * hour), request(3, 40, "same"))).toMatchObject({ execution_id: executionId(3) });
  ledger.nextLease(start + 48 * hour + 1);
  expect(kept()).toBe(1);
});

test("an intent that comes again with another limit or leak sets nothing, and is told so", () => {
  const { ledger, events } = open(100);
  ledger.configure(at(start + 1), 50, 5, "first");
  expect(ledger.configure(at(start + 2), 60, 5, "first")).toBeNull();
  expect(ledger.configure(at(start + 2), 50, 6, "first")).toBeNull();
  expect(ledger.balance(start + 2)).toMatchObject({ limit_units: 50, leak_units_per_hour: 5 });
  expect(events()).toHaveLength(2);
  expect(ledger.configure(at(start + 1 + 24 * hour), 60, 5, "first")).toMatchObject({ limit_units: 60 });
});

test("a ledger whose intents were kept without their numbers goes on with them", () => {
  const sql = openSql(":memory:");
  sql.exec("create table configured (intent text primary key, created_ms integer not null)");
  sql.exec("insert into configured values ('before', ?)", start);
  for (let opened = 0; opened < 2; opened += 1) {
    const ledger = new Ledger(sql);
    expect(ledger.configure(at(start + 1), 50, 0, "before")).toMatchObject({ limit_units: 0 });
  }
  expect(new Ledger(sql).configure(at(start + 2), 50, 0, "after")).toMatchObject({ limit_units: 50 });
  expect(new Ledger(sql).configure(at(start + 3), 51, 0, "after")).toBeNull();
});
