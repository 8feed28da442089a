// The drain's SQL on Postgres, as the role maestro_drain. Rows are numbered a tenant as they are taken (`source_seq`), once,
// under a lock of the shard: a drain that outlived its object waits, sees what was done, and numbers nothing twice.

import { sql, type SQL } from "drizzle-orm";
import { inBatch, type Database } from "../tenancy/database.ts";
import type { DrainPort } from "./drain.ts";
import { withSourceSeq } from "./outbox.ts";

/** Of the advisory locks, those of drains: "mcdr" in ASCII. */
const lockClass = 0x6d636472;

/** A statement of its own, so that the one behind it sees all that the lock's last holder committed. */
const lockOf = (shard: number): SQL => sql`select pg_advisory_xact_lock(${lockClass}, ${shard})`;

export function postgresOutbox(database: Database, shard: number, send: DrainPort["send"]): DrainPort {
  return {
    async select(limit) {
      const [, rows] = await inBatch(database, [lockOf(shard), takeRows(shard, limit)]);
      return (rows ?? []).map((row) => ({
        id: String(row["id"]),
        body: withSourceSeq(String(row["body"]), Number(row["source_seq"])),
      }));
    },
    send,
    async remove(ids) {
      await inBatch(database, [lockOf(shard), removeRows(`{${ids.join(",")}}`)]);
    },
  };
}

/** The oldest rows, each with its number: those that were taken before have theirs, the others get their tenant's next ones. */
const takeRows = (shard: number, limit: number): SQL =>
  sql`with waiting as materialized (
        select id, tenant_id, body from outbox where shard = ${shard} order by id limit ${limit}
      ), known as materialized (
        select tenant_id, source_seq, taken_ids, taken_seqs from outbox_counters
        where tenant_id in (select tenant_id from waiting)
      ), taken as materialized (
        select t.id, t.seq from known, unnest(taken_ids, taken_seqs) as t (id, seq)
      ), fresh as materialized (
        select w.id, w.tenant_id, coalesce(known.source_seq, 0)
          + row_number() over (partition by w.tenant_id order by w.id) as seq
        from waiting w left join known using (tenant_id) where not exists (select from taken where taken.id = w.id)
      ), counted as (
        insert into outbox_counters as counter (tenant_id, source_seq, counted_at, taken_ids, taken_seqs)
        select tenant_id, max(seq), date_trunc('minute', now()), array_agg(id order by seq), array_agg(seq order by seq)
        from fresh group by tenant_id
        on conflict (tenant_id) do update set source_seq = excluded.source_seq, counted_at = excluded.counted_at,
          taken_ids = counter.taken_ids || excluded.taken_ids, taken_seqs = counter.taken_seqs || excluded.taken_seqs
      )
      select waiting.id::text as id, body, coalesce(taken.seq, fresh.seq)::text as source_seq
      from waiting left join taken using (id) left join fresh using (id) order by waiting.id`;

const removeRows = (ids: string): SQL =>
  sql`with gone as (
        delete from outbox where id = any(${ids}::bigint[]) returning tenant_id
      )
      update outbox_counters set (taken_ids, taken_seqs) = (
        select coalesce(array_agg(id order by seq), '{}'), coalesce(array_agg(seq order by seq), '{}')
        from unnest(taken_ids, taken_seqs) as t (id, seq) where id <> all(${ids}::bigint[])
      ) where tenant_id in (select tenant_id from gone)`;
