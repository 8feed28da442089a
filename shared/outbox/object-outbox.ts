// The outbox of a Durable Object: the same row shape in its own SQLite, written in the object's transaction, with a
// counter a source so that the log can tell when an event was lost.

import { eventText, type AuditEvent, type EventAttributes, type EventType } from "../contract/events.ts";
import type { Sql } from "../contract/ports.ts";
import type { DrainPort } from "./drain.ts";
import { newEvent, type EventContext } from "./outbox.ts";

export const objectOutboxSchema = `
  create table if not exists outbox (id integer primary key autoincrement, event_id text not null unique, body text not null);
  create table if not exists source_counter (only integer primary key check (only = 1), source_seq integer not null);
`;

/** Call within the object's transaction: counts the event and stores its row. */
export function storeEvent<T extends EventType>(
  sql: Sql,
  context: EventContext,
  type: T,
  attributes: EventAttributes<T>,
): AuditEvent<T> {
  const [row] = sql.exec<{ source_seq: number }>(
    `insert into source_counter values (1, 1)
     on conflict (only) do update set source_seq = source_seq + 1 returning source_seq`,
  );
  const event = newEvent(context, type, attributes, row!.source_seq);
  sql.exec("insert into outbox (event_id, body) values (?, ?)", event.id, eventText(event));
  return event;
}

/** The same for a source that has several writers, whose events nobody can count. */
export function storeUncounted<T extends EventType>(
  sql: Sql,
  context: EventContext,
  type: T,
  attributes: EventAttributes<T>,
): void {
  const event = newEvent(context, type, attributes);
  sql.exec("insert into outbox (event_id, body) values (?, ?)", event.id, eventText(event));
}

export const outboxWaits = (sql: Sql): boolean => sql.exec("select 1 as one from outbox limit 1").length > 0;

export function objectOutbox(sql: Sql, send: DrainPort["send"]): DrainPort {
  return {
    async select(limit) {
      return sql
        .exec<{ id: number; body: string }>("select id, body from outbox order by id limit ?", limit)
        .map((row) => ({ id: String(row.id), body: row.body }));
    },
    send,
    async remove(ids) {
      // Rows of one send are a run from the oldest on: nothing is inserted below the highest id of it.
      sql.exec("delete from outbox where id <= ?", Number(ids.at(-1)));
    },
  };
}
