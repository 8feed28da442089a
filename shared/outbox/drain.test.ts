import { expect, test } from "vitest";
import { openSql } from "../../test/support/sqlite.ts";
import { objectOutbox, objectOutboxSchema, outboxWaits } from "./object-outbox.ts";
import { drainOnce, drainRowsMax, messageBytesMax, packCalls, type DrainPort, type OutboxRow } from "./drain.ts";

const row = (id: number, body = JSON.stringify({ id })): OutboxRow => ({ id: String(id), body });

/** A port over an array, which can crash before or after an effect. */
function memoryPort(rows: OutboxRow[], crash: { at?: "send" | "remove"; when?: "before" | "after" } = {}) {
  const sent: string[] = [];
  const fail = (at: "send" | "remove", when: "before" | "after"): void => {
    if (crash.at === at && crash.when === when) throw new Error(`crash ${when} ${at}`);
  };
  const port: DrainPort = {
    select: async (limit) => rows.slice(0, limit),
    async send(messages) {
      fail("send", "before");
      sent.push(...messages);
      fail("send", "after");
    },
    async remove(ids) {
      fail("remove", "before");
      for (const id of ids)
        rows.splice(
          rows.findIndex((candidate) => candidate.id === id),
          1,
        );
      fail("remove", "after");
    },
  };
  return { port, sent };
}

test("events leave in the order of their ids, and their rows go once the queue has them", async () => {
  const rows = [row(1), row(2), row(3)];
  const { port, sent } = memoryPort(rows);
  expect(await drainOnce(port)).toEqual({ events: 3, full: false });
  expect(sent.flatMap((message) => JSON.parse(message))).toEqual([{ id: 1 }, { id: 2 }, { id: 3 }]);
  expect(rows).toEqual([]);
});

test.each([
  ["send", "before"],
  ["send", "after"],
  ["remove", "before"],
  ["remove", "after"],
] as const)("a crash at %s (%s) loses nothing: the next drain sends what is left", async (at, when) => {
  const rows = [row(1), row(2)];
  const crashed = memoryPort(rows, { at, when });
  await expect(drainOnce(crashed.port)).rejects.toThrow("crash");
  const resumed = memoryPort(rows);
  await drainOnce(resumed.port);
  const events = [...crashed.sent, ...resumed.sent].flatMap((message) => JSON.parse(message) as { id: number }[]);
  expect(new Set(events.map(({ id }) => id))).toEqual(new Set([1, 2]));
  expect(rows).toEqual([]);
});

test("messages and calls keep within the platform's bounds, and no event is left out", () => {
  const rows = Array.from({ length: drainRowsMax }, (_, id) =>
    row(id, JSON.stringify({ id, pad: "ü".repeat(id % 9_000) })),
  );
  const calls = packCalls(rows);
  expect(calls.flatMap(({ ids }) => ids)).toEqual(rows.map(({ id }) => id));
  for (const { messages } of calls) {
    expect(messages.length).toBeLessThanOrEqual(100);
    const sizes = messages.map((message) => new TextEncoder().encode(message).length);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(messageBytesMax);
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThanOrEqual(250_000);
  }
  expect(calls.flatMap(({ messages }) => messages.flatMap((message) => JSON.parse(message)))).toHaveLength(rows.length);
});

test("a full select says that more may wait", async () => {
  const { port } = memoryPort(Array.from({ length: drainRowsMax + 1 }, (_, id) => row(id)));
  expect((await drainOnce(port)).full).toBe(true);
  expect((await drainOnce(port)).full).toBe(false);
});

test("of an object's outbox the rows that were sent go, the last of them too, and none that came meanwhile", async () => {
  const sql = openSql(":memory:");
  sql.exec(objectOutboxSchema);
  const add = (id: string): void => void sql.exec("insert into outbox (event_id, body) values (?, ?)", id, `"${id}"`);
  for (const id of ["a", "b", "c"]) add(id);
  const sent: string[] = [];
  const port = objectOutbox(sql, async (messages) => {
    sent.push(...messages);
    if (sent.length === 1) add("d");
  });
  expect(await drainOnce(port)).toEqual({ events: 3, full: false });
  expect((await port.select(10)).map(({ body }) => body)).toEqual(['"d"']);
  await drainOnce(port);
  expect([sent, outboxWaits(sql)]).toEqual([['["a","b","c"]', '["d"]'], false]);
});
