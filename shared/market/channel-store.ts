// The SQL of channel pointers: where a channel of a package points, signed, and how it got there.

import { sql, type SQL } from "drizzle-orm";
import type { AuditEvent } from "../contract/events.ts";
import { channelPointer, type ChannelPointer } from "../contract/http-market.ts";
import type { Channel } from "../contract/names.ts";
import { outboxInsert } from "../outbox/outbox.ts";
import { asTenant, type Database, type Row } from "../tenancy/database.ts";
import { forgetExpired, rememberAnswer, type IdempotencyClaim } from "../tenancy/idempotency.ts";
import { versionOrder } from "./version-order.ts";

const pointerOf = (row: Row): ChannelPointer =>
  channelPointer.parse({
    ...row,
    sequence: Number(row["sequence"]),
    moved_at: new Date(String(row["moved_at"])).toISOString(),
  });

/** The package's signed pointers, stable first; one that was never signed is not there. */
export async function readPointers(database: Database, tenantId: string, name: string): Promise<ChannelPointer[]> {
  const [rows] = await asTenant(database, tenantId, [
    sql`select c.package, c.channel, r.version, c.release_id, r.artifact_sha256, c.sequence, c.moved_at, c.bundle
        from channel_pointers c join releases r on r.id = c.release_id
        where c.package = ${name} and c.bundle is not null order by c.channel desc`,
  ]);
  return (rows ?? []).map(pointerOf);
}

/** Where a channel stands before a move: also for pointers that were never signed. */
export interface Standing {
  readonly sequence: number;
  readonly version: string;
  readonly release_id: string;
}

export async function readStanding(
  database: Database,
  tenantId: string,
  name: string,
  channel: Channel,
): Promise<Standing | null> {
  const [rows] = await asTenant(database, tenantId, [
    sql`select c.sequence, r.version, c.release_id from channel_pointers c join releases r on r.id = c.release_id
        where c.package = ${name} and c.channel = ${channel}`,
  ]);
  const row = rows?.[0];
  return row === undefined
    ? null
    : { sequence: Number(row["sequence"]), version: String(row["version"]), release_id: String(row["release_id"]) };
}

/** True where `version` has a higher precedence than the channel's, or the channel points nowhere yet. */
export const movesUp = (version: string, standing: Standing | null): boolean =>
  standing === null || versionOrder(version) > versionOrder(standing.version);

export interface PointerMove {
  readonly pointer: ChannelPointer;
  /** The pointer stood there when the move was decided; null: nowhere. */
  readonly from_sequence: number | null;
  readonly moved_by: string;
}

/**
 * An INSERT or UPDATE of the pointer that does nothing where it has moved since, or where `guard` (a condition) does not
 * hold; it returns the sequence. In the publishing tenant's part of a transaction.
 */
export function pointerWrite({ pointer, from_sequence: from, moved_by: by }: PointerMove, guard: SQL): SQL {
  const { package: name, channel, release_id: release, sequence, moved_at: at } = pointer;
  const bundle = sql`${JSON.stringify(pointer.bundle)}::jsonb`;
  const moved =
    from === null
      ? sql`insert into channel_pointers (package, channel, release_id, moved_at, sequence, bundle)
            select ${name}, ${channel}, ${release}, ${at}::timestamptz, ${sequence}::bigint, ${bundle} where ${guard}
            on conflict do nothing returning sequence`
      : sql`update channel_pointers
            set release_id = ${release}, moved_at = ${at}, sequence = ${sequence}, bundle = ${bundle}
            where package = ${name} and channel = ${channel} and sequence = ${from} and ${guard} returning sequence`;
  return sql`with moved as (${moved})
    insert into channel_history (package, channel, sequence, release_id, bundle, moved_by, moved_at)
    select ${name}, ${channel}, sequence, ${release}, ${bundle}, ${by}, ${at}::timestamptz from moved returning sequence`;
}

/** A condition: this very move stands in the history. No two moves have the same signature, so that it is nobody else's. */
export const pointerWritten = ({ package: name, channel, sequence, bundle }: ChannelPointer): SQL => sql`exists (
  select from channel_history
  where package = ${name} and channel = ${channel} and sequence = ${sequence} and bundle = ${JSON.stringify(bundle)}::jsonb
)`;

/** Pointer, history, event and answer in one transaction; false where the channel has moved, or the release is no longer published. */
export async function moveChannel(
  database: Database,
  tenantId: string,
  shards: number,
  move: PointerMove & { readonly event: AuditEvent; readonly claim: IdempotencyClaim; readonly now: number },
): Promise<boolean> {
  const { pointer, claim, now, event } = move;
  const published = sql`exists (
    select from releases where id = ${pointer.release_id} and publisher_tenant_id = ${tenantId} and state = 'published'
  )`;
  const results = await asTenant(database, tenantId, [
    ...forgetExpired(claim, now),
    pointerWrite(move, published),
    sql`with remembered as (
          ${rememberAnswer(claim, now, { status: 201, response: pointer }, sql`where ${pointerWritten(pointer)}`)}
        ) ${outboxInsert([event], shards, sql`where ${pointerWritten(pointer)}`)}`,
  ]);
  return (results.at(-1) ?? []).length > 0;
}
