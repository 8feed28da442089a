// The numbers that the drain gives to a tenant's events, on the real Postgres with the drain's own role: each event once and
// none left out, whatever is taken twice, deleted in part or out of order, or taken by two drains at once.

import { randomBytes } from "node:crypto";
import { neon, neonConfig } from "@neondatabase/serverless";
import { drizzle } from "drizzle-orm/neon-http";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventText } from "../../shared/contract/events.ts";
import type { DrainPort } from "../../shared/outbox/drain.ts";
import { newEvent } from "../../shared/outbox/outbox.ts";
import { postgresOutbox } from "../../shared/outbox/store.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
/** A shard that no drain of the stack looks at. */
const shard = 900;
let tenants: string[];
let owner: pg.Client;
beforeAll(async () => {
  neonConfig.fetchEndpoint = stack.neonEndpoint;
  owner = new pg.Client({ connectionString: stack.databaseUrls.owner });
  await owner.connect();
  tenants = [];
  for (const name of ["counted-a", "counted-b"]) tenants.push((await stack.seedTenant(name)).tenant_id);
});
afterAll(() => owner.end());

const drain = (): DrainPort =>
  postgresOutbox(drizzle({ client: neon(stack.databaseUrls.drain) }), shard, () => Promise.resolve());

async function commit(tenantId: string, count: number): Promise<void> {
  for (let at = 0; at < count; at += 1) {
    const random = (byteCount: number): Uint8Array<ArrayBuffer> => new Uint8Array(randomBytes(byteCount));
    const context = { tenant_id: tenantId, principal: null, source: "api", now: Date.now(), random } as const;
    const event = newEvent(context, "mc.flag.changed", { flag: "market_channels", outcome: "on" });
    await owner.query("insert into outbox (shard, tenant_id, event_id, body) values ($1, $2, $3, $4)", [
      shard,
      tenantId,
      event.id,
      eventText(event),
    ]);
  }
}

interface Taken {
  readonly id: string;
  readonly tenant: number;
  readonly seq: number | null;
}
const take = async (limit = 100): Promise<Taken[]> =>
  (await drain().select(limit)).map(({ id, body }) => {
    const event = JSON.parse(body) as { tenant_id: string; source_seq: number | null };
    return { id, tenant: tenants.indexOf(event.tenant_id), seq: event.source_seq };
  });
const numbersOf = (rows: readonly Taken[], tenant: number): unknown[] =>
  rows.filter((row) => row.tenant === tenant).map(({ seq }) => seq);

test("each tenant's events are counted from 1, and keep their numbers until they are deleted, in whatever order that is", async () => {
  const [a, b] = tenants as [string, string];
  await commit(a, 3);
  await commit(b, 2);
  const first = await take();
  expect([numbersOf(first, 0), numbersOf(first, 1)]).toEqual([
    [1, 2, 3],
    [1, 2],
  ]);
  expect(await take()).toEqual(first);
  // One in the middle goes before those ahead of it, and new ones come behind.
  await drain().remove([first[1]!.id]);
  await commit(a, 2);
  const second = await take();
  expect([numbersOf(second, 0), numbersOf(second, 1)]).toEqual([
    [1, 3, 4, 5],
    [1, 2],
  ]);
  await drain().remove(second.map(({ id }) => id));
  expect(await take()).toEqual([]);
  await commit(b, 1);
  const third = await take();
  expect(third.map(({ tenant, seq }) => [tenant, seq])).toEqual([[1, 3]]);
  await drain().remove(third.map(({ id }) => id));
  const { rows } = await owner.query(
    "select source_seq::int as seq, taken_ids, taken_seqs from outbox_counters where tenant_id = any($1) order by 1",
    [tenants],
  );
  expect(rows).toEqual([
    { seq: 3, taken_ids: [], taken_seqs: [] },
    { seq: 5, taken_ids: [], taken_seqs: [] },
  ]);
});

test("a row that was committed late, below others that have their numbers, gets the next one", async () => {
  const [a] = tenants as [string];
  await commit(a, 3);
  const { rows } = await owner.query<{ id: string }>(
    "select id::text from outbox where shard = $1 order by outbox.id",
    [shard],
  );
  // Kept out of sight while the others are taken, as a transaction that is still open is.
  await owner.query("update outbox set shard = $1 where id = $2", [shard + 1, rows[0]!.id]);
  const early = numbersOf(await take(), 0) as number[];
  await owner.query("update outbox set shard = $1 where id = $2", [shard, rows[0]!.id]);
  expect(numbersOf(await take(), 0)).toEqual([early[1]! + 1, early[0], early[1]]);
  expect(numbersOf(await take(1), 0)).toEqual([early[1]! + 1]);
  await drain().remove(rows.map(({ id }) => id));
});

test("drains that run at once number nothing twice and leave nothing out", async () => {
  const [a, b] = tenants as [string, string];
  const before = 9;
  await commit(a, before);
  await commit(b, before);
  const all = await Promise.all(Array.from({ length: 5 }, () => take()));
  for (const rows of all) expect(rows).toEqual(all[0]);
  for (const tenant of [0, 1]) {
    const numbers = numbersOf(all[0]!, tenant) as number[];
    expect(numbers).toEqual(numbers.map((_, at) => numbers[0]! + at));
    expect(numbers).toHaveLength(before);
  }
  // One deletes what another is about to take: what is gone is not taken, and gets no second number.
  const [, taken] = await Promise.all([drain().remove(all[0]!.map(({ id }) => id)), take()]);
  expect([[], all[0]]).toContainEqual(taken);
  await commit(a, 1);
  const last = await take();
  expect(numbersOf(last, 0)).toEqual([(numbersOf(all[0]!, 0).at(-1) as number) + 1]);
  await drain().remove(last.map(({ id }) => id));
});
