// What decisions were made on: kept with their events (shared/outbox), read to have the policy asked again, forgotten by the cron.

import { sql } from "drizzle-orm";
import { decisionRecord, type DecisionRecord } from "../contract/http-decisions.ts";
import { asTenant, inBatch, type Database } from "../tenancy/database.ts";

/** The log has an event within minutes; hours where queues or the database were away. */
const loggedWithin = sql`interval '7 days'`;

/** Null where no input is kept under the id. `database` connects as maestro_app. */
export async function readDecision(
  database: Database,
  tenantId: string,
  eventId: string,
): Promise<DecisionRecord | null> {
  const [rows] = await asTenant(database, tenantId, [
    sql`select k.event_id as id, to_char(k.decided_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as decided_at,
          k.input, e.seq::float8 as seq,
          to_char(e.logged_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as logged_at, e.attrs
        from decision_inputs k left join audit_events e
          on e.tenant_id = k.tenant_id and e.type = 'mc.policy.decision' and e.event_id = k.event_id
            and e.logged_at >= k.decided_at - interval '1 hour' and e.logged_at < k.decided_at + ${loggedWithin}
        where k.tenant_id = ${tenantId}::uuid and k.event_id = ${eventId}`,
  ]);
  const row = rows?.[0];
  if (row === undefined) return null;
  const { id, decided_at, input, seq, logged_at, attrs } = row;
  const logged =
    seq === null ? null : { seq, logged_at, attributes: JSON.parse(String(attrs)) as Record<string, unknown> };
  return decisionRecord.parse({ id, decided_at, input, logged });
}

/** Inputs that one sweep forgets at most. */
const forgottenMax = 10_000;

/** Forgets inputs whose window has passed, as the role maestro_drain: row security shows it no others. Says how many. */
export async function forgetOldInputs(database: Database): Promise<number> {
  const [rows] = await inBatch(database, [
    sql`with gone as (
          delete from decision_inputs where (tenant_id, event_id) in (
            select tenant_id, event_id from decision_inputs where decided_at < now() - interval '400 days' limit ${forgottenMax}
          ) returning 1
        ) select count(*)::int as count from gone`,
  ]);
  return Number(rows?.[0]?.["count"] ?? 0);
}
