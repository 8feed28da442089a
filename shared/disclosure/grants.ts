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

const schema = `
  ${objectOutboxSchema}
  create table if not exists grants (
    id text primary key, execution_id text not null, pack_sha256 text not null, principal text,
    expires_ms integer not null, downloads integer not null default 0, downloaded_ms integer not null default 0
  );
  create index if not exists grants_by_expiry on grants (expires_ms);
`;

export interface NewGrant {
  readonly id: string;
  readonly execution_id: string;
  readonly pack_sha256: string;
  readonly expires_at: string;
}

/** `resumed`: a range of a download that was counted. */
export type GrantUse = "download" | "resumed" | "asked";

/** What callers of the object may ask. When a promise resolves, the change is durable. */
export interface GrantsPort {
  grant(principal: string, grant: NewGrant): Promise<void>;
  /** Counts a download, with its event, if the grant still holds. Nothing is counted where it is only `asked` whether it does. */
  use(grantId: string, use: GrantUse): Promise<"ok" | "gone">;
}

export class Grants {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
    sql.exec(schema);
  }

  grant(context: EventContext, grant: NewGrant): void {
    this.#sql.transaction(() => {
      this.#sql.exec("delete from grants where expires_ms < ?", context.now - keptMs);
      this.#sql.exec(
        "insert into grants (id, execution_id, pack_sha256, principal, expires_ms) values (?, ?, ?, ?, ?)",
        grant.id,
        grant.execution_id,
        grant.pack_sha256,
        context.principal,
        Date.parse(grant.expires_at),
      );
      storeEvent(this.#sql, context, "mc.disclosure.linked", {
        execution_id: grant.execution_id,
        grant_id: grant.id,
        pack_sha256: grant.pack_sha256,
        expires_at: grant.expires_at,
      });
    });
  }

  use(context: EventContext, grantId: string, use: GrantUse): "ok" | "gone" {
    return this.#sql.transaction((): "ok" | "gone" => {
      const [row] = this.#sql.exec<{
        execution_id: string;
        pack_sha256: string;
        principal: string | null;
        downloads: number;
        downloaded_ms: number;
        expires_ms: number;
      }>(
        "select execution_id, pack_sha256, principal, downloads, downloaded_ms, expires_ms from grants where id = ?",
        grantId,
      );
      if (row === undefined || row.expires_ms <= context.now) return "gone";
      const isTold = row.downloads > 0 && (use === "resumed" || context.now - row.downloaded_ms < downloadEveryMs);
      if (isTold) return "ok";
      if (row.downloads >= downloadsMax) return "gone";
      if (use === "asked") return "ok";
      this.#sql.exec(
        "update grants set downloads = downloads + 1, downloaded_ms = ? where id = ?",
        context.now,
        grantId,
      );
      // The principal that asked for the link answers for its use: a bearer link has no caller of its own.
      storeEvent(this.#sql, { ...context, principal: row.principal }, "mc.disclosure.downloaded", {
        execution_id: row.execution_id,
        grant_id: grantId,
        pack_sha256: row.pack_sha256,
      });
      return "ok";
    });
  }
}
