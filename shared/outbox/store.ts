// The drain's SQL on Postgres, as the role maestro_drain. Rows are numbered a tenant as they are taken (`source_seq`), in the
// statement that takes them: locked first, so that a drain that outlived its object numbers nothing twice, and leaves no hole.

import { sql } from "drizzle-orm";
import { inBatch, type Database } from "../tenancy/database.ts";
import type { DrainPort } from "./drain.ts";
import { withSourceSeq } from "./outbox.ts";

export function postgresOutbox(database: Database, shard: number, send: DrainPort["send"]): DrainPort {
  return {
    async select(limit) {
      const [rows] = await inBatch(database, [
        sql`with taken as materialized (
              select id, tenant_id, body, source_seq from outbox where shard = ${shard} order by id limit ${limit} for update
            ), fresh as (
              select id, tenant_id, row_number() over (partition by tenant_id order by id) as place,
                count(*) over (partition by tenant_id) as total
              from taken where source_seq is null
            ), counted as (
              insert into outbox_counters as counter (tenant_id, source_seq, counted_at)
              select tenant_id, count(*), date_trunc('minute', now()) from fresh group by tenant_id order by tenant_id
              on conflict (tenant_id) do update
                set source_seq = counter.source_seq + excluded.source_seq, counted_at = excluded.counted_at
              returning tenant_id, source_seq
            ), numbered as (
              update outbox set source_seq = counted.source_seq - fresh.total + fresh.place
              from fresh join counted using (tenant_id) where outbox.id = fresh.id
              returning outbox.id, outbox.source_seq
            )
            select id::text as id, body, coalesce(taken.source_seq, numbered.source_seq)::text as source_seq
            from taken left join numbered using (id) order by taken.id`,
      ]);
      return (rows ?? []).map((row) => ({
        id: String(row["id"]),
        body: withSourceSeq(String(row["body"]), Number(row["source_seq"])),
      }));
    },
    send,
    async remove(ids) {
      await inBatch(database, [sql`delete from outbox where id = any(${`{${ids.join(",")}}`}::bigint[])`]);
    },
  };
}
