// What a KeyRotation object remembers of its rotations, and what it tells of them: rows in the object's SQLite, the views that the API
// shows, and events. Called by rotations.ts, consumers.ts and emergencies.ts, each write within the caller's transaction.

import type { EventAttributes } from "../contract/events.ts";
import {
  type EmergencyProposal,
  type NamedConsumer,
  type Rotation,
  type Rotated,
  type RotationState,
} from "../contract/http-rotations.ts";
import { isoTime } from "../contract/iso-time.ts";
import type { Clock, Random, Sql } from "../contract/ports.ts";
import type { ProblemCode } from "../contract/problems.ts";
import { storeUncounted } from "../outbox/object-outbox.ts";
import type { RotatedKeys } from "./service.ts";

export interface LedgerParts {
  readonly sql: Sql;
  readonly clock: Clock;
  readonly random: Random;
  readonly rotated: Rotated;
  /** Synchronous, handed in: what is approved is compared in the transaction that approves it. */
  readonly sha256: (bytes: Uint8Array) => Uint8Array;
}

/** Who calls; `intent` is the same for the same call sent again, null where nothing tells. */
export interface RotationCall {
  readonly tenant_id: string;
  readonly principal: string;
  readonly intent: string | null;
}

export interface RotationRefused {
  readonly ok: false;
  readonly code: Extract<
    ProblemCode,
    | "rotation_running"
    | "rotation_state"
    | "proposal_changed"
    | "not_found"
    | "rotation_consumers_max"
    | "rotation_distrusts_max"
  >;
  readonly detail: string;
}
export type RotationAnswer = { readonly ok: true; readonly rotation: Rotation } | RotationRefused;
export type ProposalAnswer = { readonly ok: true; readonly proposal: EmergencyProposal } | RotationRefused;
export type ConsumerAnswer = { readonly ok: true; readonly consumer: NamedConsumer } | RotationRefused;

export interface RotationRow extends Record<string, string | number | null> {
  readonly id: string;
  readonly tenant_id: string;
  readonly state: RotationState;
  readonly started_by: string;
  readonly keys: string | null;
  readonly built_in: string;
  readonly obstacle: string | null;
  readonly failures: number;
  readonly again_at: number;
  readonly reason: string | null;
  readonly proposed_by: string | null;
  readonly proposed_at: number | null;
  readonly approved_by: string | null;
  readonly approved_at: number | null;
}

const schema = `
  create table if not exists rotations (
    n integer primary key autoincrement, id text not null unique, tenant_id text not null, state text not null,
    started_by text not null, intent text, keys text, built_in text not null default '[]', obstacle text,
    failures integer not null default 0, again_at integer not null default 0,
    reason text, proposed_by text, proposed_at integer, approved_by text, approved_at integer
  );
  create table if not exists transitions (
    rotation text not null, state text not null, at integer not null, primary key (rotation, state)
  );
  create table if not exists consumers (name text primary key, added_by text not null, added_at integer not null);
  create table if not exists acknowledgements (
    rotation text not null, consumer text not null, principal text not null, at integer not null,
    primary key (rotation, consumer)
  );
  -- At most one: an emergency that nobody has approved yet.
  create table if not exists proposals (
    only integer primary key check (only = 1), id text not null, tenant_id text not null, reason text not null,
    proposed_by text not null, proposed_at integer not null, breaks text not null, intent text
  );
  -- Of a proposal that names its keys.
  create table if not exists proposed_keys (id text primary key, keys text not null);
  -- Which proposal an approval named; none of rotations that were approved before approvals did.
  create table if not exists approvals (rotation text primary key, proposal_sha256 text not null);
`;

/** For who approves another proposal than the one that stands. */
export const otherProposal = ({ id, proposed_by, proposed_at }: EmergencyProposal): RotationRefused => ({
  ok: false,
  code: "proposal_changed",
  detail: `What is proposed for ${id} since ${proposed_at}, by ${proposed_by}, is not what you approve.`,
});

export const noSuch: RotationRefused = { ok: false, code: "not_found", detail: "There is no such rotation." };

export class RotationLedger {
  readonly parts: LedgerParts;
  readonly sql: Sql;

  constructor(parts: LedgerParts) {
    this.parts = parts;
    this.sql = parts.sql;
    this.sql.exec(schema);
  }

  /** `keys`: where it is known from the beginning which ones it is about. */
  begin(
    id: string,
    tenantId: string,
    principal: string,
    intent: string | null,
    now: number,
    keys: string | null = null,
  ): string {
    this.sql.exec(
      "insert into rotations (id, tenant_id, state, started_by, intent, keys) values (?, ?, 'prepare', ?, ?, ?)",
      id,
      tenantId,
      principal,
      intent,
      keys,
    );
    this.sql.exec("insert into transitions values (?, 'prepare', ?)", id, now);
    this.tell({ id, tenant_id: tenantId, keys }, principal, "prepare", now, []);
    return id;
  }

  tell(
    row: { readonly id: string; readonly tenant_id: string; readonly keys: string | null },
    principal: string | null,
    outcome: EventAttributes<"mc.key.rotation">["outcome"],
    now: number,
    consumers: string[],
    proposalSha256?: string,
  ): void {
    const { random, rotated } = this.parts;
    const keys = keysOf(row);
    storeUncounted(
      this.sql,
      { tenant_id: row.tenant_id, principal, source: "rotation", now, random },
      "mc.key.rotation",
      {
        rotation_id: row.id,
        kind: rotated.kind,
        outcome,
        ...(proposalSha256 === undefined ? {} : { proposal_sha256: proposalSha256 }),
        ...toldKeys(rotated, keys),
        consumers: consumers.join(","),
      },
    );
  }

  rows(where: string, ...values: string[]): RotationRow[] {
    return this.sql.exec<RotationRow>(`select * from rotations ${where}`, ...values);
  }

  /** Enters a state, at this time. */
  enter(id: string, state: RotationState, now: number): void {
    this.sql.exec(
      "update rotations set state = ?, obstacle = null, failures = 0, again_at = 0 where id = ?",
      state,
      id,
    );
    this.sql.exec("insert or ignore into transitions values (?, ?, ?)", id, state, now);
  }

  /** Those that have not ended, emergencies first. More than one where emergencies go beside a rotation. */
  running(): RotationRow[] {
    return this.rows("where state not in ('revoked', 'cancelled') order by approved_by is null, n");
  }

  named(): NamedConsumer[] {
    return this.sql
      .exec<{ name: string; added_by: string; added_at: number }>("select * from consumers order by name")
      .map((row) => ({ ...row, ...this.parts.rotated, added_at: isoTime(row.added_at) }));
  }

  consumers(row: RotationRow): Rotation["consumers"] {
    const [published] = this.sql.exec<{ at: number }>(
      "select at from transitions where rotation = ? and state = 'published'",
      row.id,
    );
    const builtIn = (JSON.parse(row.built_in) as { name: string; holds: boolean }[]).map(({ name, holds }) => ({
      name,
      built_in: true,
      acknowledged_at: holds && published !== undefined ? isoTime(published.at) : null,
    }));
    const acknowledged = new Map(
      this.sql
        .exec<{ consumer: string; at: number }>("select consumer, at from acknowledgements where rotation = ?", row.id)
        .map(({ consumer, at }) => [consumer, isoTime(at)]),
    );
    const named = this.named().map(({ name }) => ({
      name,
      built_in: false,
      acknowledged_at: acknowledged.get(name) ?? null,
    }));
    return [...builtIn, ...named];
  }

  waitingFor(row: RotationRow | null): string[] {
    if (row === null || row.state !== "published") return [];
    return this.consumers(row).flatMap(({ name, acknowledged_at: at }) => (at === null ? [name] : []));
  }

  /** Null: not approved, or before approvals named what they approve. */
  approvedProposal(id: string): string | null {
    const [row] = this.sql.exec<{ proposal_sha256: string }>(
      "select proposal_sha256 from approvals where rotation = ?",
      id,
    );
    return row?.proposal_sha256 ?? null;
  }

  answer(id: string): RotationAnswer {
    return { ok: true, rotation: this.shown(this.rows("where id = ?", id)[0]!) };
  }

  shown(row: RotationRow): Rotation {
    const keys = keysOf(row);
    return {
      id: row.id,
      ...this.parts.rotated,
      state: row.state,
      started_by: row.started_by,
      old_keys: [...(keys?.old ?? [])],
      new_keys: [...(keys?.new ?? [])],
      consumers: this.consumers(row),
      waiting_for: this.waitingFor(row),
      obstacle: row.obstacle,
      emergency:
        row.approved_by === null
          ? null
          : {
              reason: row.reason!,
              proposed_by: row.proposed_by!,
              proposed_at: isoTime(row.proposed_at!),
              approved_by: row.approved_by,
              approved_at: isoTime(row.approved_at!),
              proposal_sha256: this.approvedProposal(row.id),
            },
      transitions: this.sql
        .exec<{ state: RotationState; at: number }>(
          "select state, at from transitions where rotation = ? order by rowid",
          row.id,
        )
        .map(({ state, at }) => ({ state, at: isoTime(at) })),
    };
  }
}

export const keysOf = ({ keys }: { readonly keys: string | null }): RotatedKeys | null =>
  keys === null ? null : (JSON.parse(keys) as RotatedKeys);

/** Of a trust domain the kids alone would not say which of its two kinds of authorities is meant. */
function toldKeys(
  { trust_domain }: Rotated,
  keys: RotatedKeys | null,
): Pick<
  EventAttributes<"mc.key.rotation">,
  "trust_domain" | "old_kids" | "new_kids" | "old_authorities" | "new_authorities"
> {
  const joined = (list: RotatedKeys["old"], word: (key: RotatedKeys["old"][number]) => string): string =>
    list.map(word).join(",");
  const [old, next] = [keys?.old ?? [], keys?.new ?? []];
  if (trust_domain === null)
    return { old_kids: joined(old, ({ kid }) => kid), new_kids: joined(next, ({ kid }) => kid) };
  const named = ({ slot, kid }: RotatedKeys["old"][number]): string => `${slot}:${kid}`;
  return {
    trust_domain,
    old_kids: "",
    new_kids: "",
    old_authorities: joined(old, named),
    new_authorities: joined(next, named),
  };
}

export const isCancelled = ({ state }: RotationRow): boolean => state === "cancelling" || state === "cancelled";

export const isRunning = ({ id, state }: RotationRow): RotationRefused => ({
  ok: false,
  code: "rotation_running",
  detail: `The rotation ${id} is ${state}.`,
});
