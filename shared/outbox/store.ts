// The drain's SQL on Postgres, as the role maestro_drain.

import { sql } from "drizzle-orm";
import { inBatch, type Database } from "../tenancy/database.ts";
import type { DrainPort } from "./drain.ts";

export function postgresOutbox(database: Database, shard: number, send: DrainPort["send"]): DrainPort {
  return {
    async select(limit) {
      const [rows] = await inBatch(database, [
        sql`select id::text as id, body from outbox where shard = ${shard} order by id limit ${limit}`,
      ]);
      return (rows ?? []).map((row) => ({ id: String(row["id"]), body: String(row["body"]) }));
    },
    send,
    async remove(ids) {
      await inBatch(database, [sql`delete from outbox where id = any(${`{${ids.join(",")}}`}::bigint[])`]);
    },
  };
}
