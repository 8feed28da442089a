// The grants of one tenant's quick links, over the SQLite of their object: which link may still be used, and that every
// download is told to the log. Called by durable-objects/disclosure-grants.ts.

import type { Sql } from "../contract/ports.ts";
import { objectOutboxSchema, storeEvent } from "../outbox/object-outbox.ts";
import type { EventContext } from "../outbox/outbox.ts";

/** A grant is kept this long after it ended, to tell "expired" from "never was". */
const keptMs = 24 * 3_600_000;
/**
 * Whoever holds a link calls without a credential of their own, and each of their downloads is a row in the tenant's log
 * for ever: what comes within this time of a download that was told is told with it, and after so many the link is used up.
 */
export const downloadEveryMs = 60_000;
export const downloadsMax = 20;
/**
 * What comes later from behind the first byte resumes what was told, until so many times the pack were sent since: more than
 * that is another download, however its ranges are cut.
 */
export const resumedPacksMax = 2;
/**
 * A one-time link is used up by the first download that reaches the pack's end. What broke on its way may be resumed for so
 * long after that, from behind the first byte; all that is sent through the link is at most so many times the pack.
 */
export const resumeMs = 60_000;
export const oneTimePacksMax = 2;

const schema = `
  ${objectOutboxSchema}
  create table if not exists grants (
    id text primary key, execution_id text not null, pack_sha256 text not null, principal text,
    expires_ms integer not null, downloads integer not null default 0, downloaded_ms integer not null default 0
  );
  create index if not exists grants_by_expiry on grants (expires_ms);
  create table if not exists revoked_grants (id text primary key, revoked_ms integer not null) without rowid;
  create table if not exists sent_grants (id text primary key, sent_bytes integer not null) without rowid;
  create table if not exists one_time_grants (
    id text primary key, sent_bytes integer not null default 0, ended_ms integer
  ) without rowid;
`;

export interface NewGrant {
  readonly id: string;
  readonly execution_id: string;
  readonly pack_sha256: string;
  readonly expires_at: string;
  /** The first download that reaches the end uses it up. */
  readonly one_time: boolean;
  /** The principal who alone may use it; null: whoever holds the link. */
  readonly audience: string | null;
}

/** What is to be sent: bytes `from` to `to` (inclusive) of `total`. `asked`: nothing, only whether the link holds. */
export type GrantUse = "asked" | { readonly from: number; readonly to: number; readonly total: number };

export type GrantAnswer = "ok" | "gone" | "used" | "revoked";

export interface RevokedGrant {
  readonly grant_id: string;
  readonly execution_id: string;
  readonly revoked_at: string;
}

/** What callers of the object may ask. When a promise resolves, the change is durable. */
export interface GrantsPort {
  grant(principal: string, grant: NewGrant): Promise<void>;
  /** Counts a download, with its event, if the grant still holds; by the principal, where the link is for one alone. */
  use(grantId: string, use: GrantUse, principal: string | null): Promise<GrantAnswer>;
  /** From the answer on the link is refused. Again it changes nothing; null where there is no such grant (any more). */
  revoke(principal: string, grantId: string): Promise<RevokedGrant | null>;
}

interface GrantRow extends Record<string, string | number | null> {
  readonly execution_id: string;
  readonly pack_sha256: string;
  readonly principal: string | null;
  readonly downloads: number;
  readonly downloaded_ms: number;
  readonly expires_ms: number;
  readonly revoked_ms: number | null;
  readonly is_one_time: number;
  /** Since the last download that was told. */
  readonly sent_since: number | null;
  readonly sent_bytes: number | null;
  readonly ended_ms: number | null;
}

const bytesOf = ({ from, to }: Exclude<GrantUse, "asked">): number => to - from + 1;

/** Whether this is the rest of a download that was told, as far as bytes can tell. */
const resumes = ({ sent_since: sent }: GrantRow, use: GrantUse): boolean =>
  use !== "asked" && use.from > 0 && (sent ?? 0) + bytesOf(use) <= resumedPacksMax * use.total;

export class Grants {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
    sql.exec(schema);
  }

  grant(context: EventContext, grant: NewGrant): void {
    this.#sql.transaction(() => {
      this.#forget(context.now - keptMs);
      this.#sql.exec(
        "insert into grants (id, execution_id, pack_sha256, principal, expires_ms) values (?, ?, ?, ?, ?)",
        grant.id,
        grant.execution_id,
        grant.pack_sha256,
        context.principal,
        Date.parse(grant.expires_at),
      );
      if (grant.one_time) this.#sql.exec("insert into one_time_grants (id) values (?)", grant.id);
      storeEvent(this.#sql, context, "mc.disclosure.linked", {
        execution_id: grant.execution_id,
        grant_id: grant.id,
        pack_sha256: grant.pack_sha256,
        expires_at: grant.expires_at,
        ...(grant.one_time ? { one_time: true } : {}),
        ...(grant.audience === null ? {} : { audience: grant.audience }),
      });
    });
  }

  use(context: EventContext, grantId: string, use: GrantUse): GrantAnswer {
    return this.#sql.transaction((): GrantAnswer => {
      const row = this.#read(grantId);
      if (row === null || row.expires_ms <= context.now) return "gone";
      if (row.revoked_ms !== null) return "revoked";
      if (row.is_one_time === 1 && !this.#takeOnce(context, grantId, row, use)) return "used";
      const isRecent = row.downloads > 0 && context.now - row.downloaded_ms < downloadEveryMs;
      if (isRecent || (row.downloads > 0 && resumes(row, use))) {
        if (use !== "asked") this.#setSent(grantId, (row.sent_since ?? 0) + bytesOf(use));
        return "ok";
      }
      if (row.downloads >= downloadsMax) return "used";
      if (use === "asked") return "ok";
      this.#sql.exec(
        "update grants set downloads = downloads + 1, downloaded_ms = ? where id = ?",
        context.now,
        grantId,
      );
      this.#setSent(grantId, bytesOf(use));
      // The principal that asked for the link answers for its use: a bearer link has no caller of its own.
      storeEvent(this.#sql, { ...context, principal: context.principal ?? row.principal }, "mc.disclosure.downloaded", {
        execution_id: row.execution_id,
        grant_id: grantId,
        pack_sha256: row.pack_sha256,
      });
      return "ok";
    });
  }

  revoke(context: EventContext, grantId: string): RevokedGrant | null {
    return this.#sql.transaction(() => {
      const row = this.#read(grantId);
      if (row === null) return null;
      if (row.revoked_ms === null) {
        this.#sql.exec("insert into revoked_grants (id, revoked_ms) values (?, ?)", grantId, context.now);
        storeEvent(this.#sql, context, "mc.disclosure.revoked", { execution_id: row.execution_id, grant_id: grantId });
      }
      const revoked_at = new Date(row.revoked_ms ?? context.now).toISOString();
      return { grant_id: grantId, execution_id: row.execution_id, revoked_at };
    });
  }

  #setSent(grantId: string, bytes: number): void {
    this.#sql.exec("insert or replace into sent_grants (id, sent_bytes) values (?, ?)", grantId, bytes);
  }

  #read(grantId: string): GrantRow | null {
    const [row] = this.#sql.exec<GrantRow>(
      `select g.execution_id, g.pack_sha256, g.principal, g.downloads, g.downloaded_ms, g.expires_ms, r.revoked_ms,
         s.sent_bytes as sent_since, o.id is not null as is_one_time, o.sent_bytes, o.ended_ms
       from grants g left join revoked_grants r on r.id = g.id left join sent_grants s on s.id = g.id
         left join one_time_grants o on o.id = g.id
       where g.id = ?`,
      grantId,
    );
    return row ?? null;
  }

  /** False where a one-time link is used up, or would send more than it may; else what it sends is set down. */
  #takeOnce(context: EventContext, grantId: string, row: GrantRow, use: GrantUse): boolean {
    const { ended_ms: endedMs, sent_bytes: sentBytes } = row;
    const isOver = endedMs !== null && context.now - endedMs >= resumeMs;
    if (use === "asked") return !isOver;
    if (isOver || (endedMs !== null && use.from === 0)) return false;
    const sent = (sentBytes ?? 0) + bytesOf(use);
    if (sent > oneTimePacksMax * use.total) return false;
    const ends = endedMs ?? (use.to === use.total - 1 ? context.now : null);
    this.#sql.exec("update one_time_grants set sent_bytes = ?, ended_ms = ? where id = ?", sent, ends, grantId);
    return true;
  }

  #forget(before: number): void {
    for (const table of ["revoked_grants", "sent_grants", "one_time_grants"]) {
      this.#sql.exec(`delete from ${table} where id in (select id from grants where expires_ms < ?)`, before);
    }
    this.#sql.exec("delete from grants where expires_ms < ?", before);
  }
}
