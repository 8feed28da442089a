// The outbox: audit events wait here, in the store that owns the state, written in the transaction of the change that
// they tell of. Rooms make the events and put the statement into their batch; `drain.ts` carries them to the queue.

import { sql, type SQL } from "drizzle-orm";
import {
  eventText,
  type AuditEvent,
  type EventAttributes,
  type EventType,
  type eventSources,
} from "../contract/events.ts";
import { newId } from "../contract/ids.ts";
import type { Random } from "../contract/ports.ts";
import { inputOf } from "./decided-event.ts";

/** What a new event needs to know of its time and maker. */
export interface EventContext {
  readonly tenant_id: string;
  readonly principal: string | null;
  readonly source: (typeof eventSources)[number];
  readonly now: number;
  readonly random: Random;
  /** The decision that allowed what the events tell of: committed with the first of them. */
  readonly decision?: AuditEvent<"mc.policy.decision"> | null;
}

/** No part of an event: what reads its members does not see it. */
const allowedBy = Symbol("allowed by");
type Allowed = AuditEvent & { readonly [allowedBy]?: AuditEvent<"mc.policy.decision"> };

export function newEvent<T extends EventType>(
  context: EventContext,
  type: T,
  attributes: EventAttributes<T>,
  sourceSeq: number | null = null,
): AuditEvent<T> {
  const event: AuditEvent<T> = {
    id: newId("event", context.now, context.random(10)),
    tenant_id: context.tenant_id,
    type,
    schema_version: 1,
    source: context.source,
    source_seq: sourceSeq,
    occurred_at: new Date(context.now).toISOString(),
    principal: context.principal,
    attributes,
  };
  const { decision = null } = context;
  return decision === null ? event : Object.assign(event, { [allowedBy]: decision });
}

const uncounted = '"source_seq":null,';

/**
 * `eventText()` of an event that had no number yet, with one. It stays RFC 8785 text: behind `source_seq` come the tenant's id
 * and the type alone, so the last such member is the event's own. An event that its source has counted stays as it is.
 */
export function withSourceSeq(text: string, sourceSeq: number): string {
  const at = text.lastIndexOf(uncounted);
  if (at < 0 || !/^"tenant_id":"[0-9a-f-]{36}","type":"[a-z_.]+"\}$/.test(text.slice(at + uncounted.length)))
    return text;
  return `${text.slice(0, at)}"source_seq":${sourceSeq},${text.slice(at + uncounted.length)}`;
}

/** The queue and the drain that serve a tenant: FNV-1a of its id, modulo the number of shards. */
export function shardOf(tenantId: string, shards: number): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < tenantId.length; at += 1) {
    hash = Math.imul(hash ^ tenantId.charCodeAt(at), 0x01000193) >>> 0;
  }
  return hash % shards;
}

/** The events, and before them the decisions that allowed them, unless they bring a decision of their own. */
function withDecisions(events: readonly AuditEvent[]): readonly AuditEvent[] {
  if (events.some(({ type }) => type === "mc.policy.decision")) return events;
  const decisions = events.flatMap((event) => (event as Allowed)[allowedBy] ?? []);
  return [...new Set(decisions), ...events];
}

/**
 * INSERT of the events' outbox rows, with the decisions that allowed them, and what those were made on; returning `event_id`.
 * `where` guards it: `where exists (select from changed)` leaves no event where a guarded change did nothing. A decision that a
 * statement before it has brought is passed over. Throws before anything is sent where an event does not fit the catalogue.
 */
export function outboxInsert(events: readonly AuditEvent[], shards: number, where: SQL = sql``): SQL {
  const rows = withDecisions(events).map((event) => ({
    shard: shardOf(event.tenant_id, shards),
    tenant_id: event.tenant_id,
    event_id: event.id,
    body: eventText(event),
    decided_on: inputOf(event),
  }));
  return sql`insert into outbox (shard, tenant_id, event_id, body, decided_on)
    select shard, tenant_id, event_id, body, decided_on
    from jsonb_to_recordset(${JSON.stringify(rows)}::jsonb)
      as e(shard int, tenant_id uuid, event_id text, body text, decided_on text)
    ${where} on conflict (event_id) do nothing returning event_id`;
}
