// The tables of one tenant's log in its object's SQLite, and the reads and writes that more than one part of the log
// needs. Only shared/audit/{log,append,seal,hours}.ts use them.

import { toBytes, type Bytes } from "../contract/bytes.ts";
import type { Sql } from "../contract/ports.ts";
import type { Range } from "./layout.ts";
import type { SegmentSchemaVersion } from "./segment-schema.ts";
import type { ContextQuery, LeafRow } from "./service.ts";
import { frontierBytes, frontierFrom, hashBytes, type Frontier } from "./tree.ts";

/** What each version of the tables added; a change is a new entry, since objects live longer than deployments. */
const versions: readonly string[] = [
  `
  create table if not exists head (
    id integer primary key check (id = 1),
    tenant_id text not null,
    size integer not null default 0,
    logged_at integer not null default 0,
    frontier blob not null,
    audit_source_seq integer not null default 0,
    sealed integer not null default 0,
    sealed_frontier blob not null,
    checkpoint text,
    indexed integer not null default 0,
    seal_due integer,
    pending_to integer,
    pending_frontier blob,
    pending_checkpoint text,
    pending_manifest text,
    seal_failures integer not null default 0,
    seal_retry_at integer,
    receipt_failures integer not null default 0,
    receipt_retry_at integer,
    index_failures integer not null default 0,
    index_retry_at integer
  );
  create table if not exists leaves (seq integer primary key, salt blob not null, body text not null);
  create table if not exists seen (event_id text primary key, seq integer not null, sha256 blob not null) without rowid;
  create index if not exists seen_by_seq on seen (seq);
  create table if not exists execution_rows (
    execution_id text not null, seq integer not null, primary key (execution_id, seq)
  ) without rowid;
  create table if not exists tiles (level integer not null, n integer not null, hashes blob not null, primary key (level, n));
  create table if not exists ranges (from_seq integer primary key, to_seq integer not null, sealed_at integer not null);
  create index if not exists ranges_by_time on ranges (sealed_at);
  create table if not exists receipts_due (event_id text primary key, seq integer not null) without rowid;
  create table if not exists conflicts (
    event_id text not null, sha256 blob not null, body text not null, at integer not null, primary key (event_id, sha256)
  );
  `,
  `alter table head add column pending_schema integer;
  alter table ranges add column schema_version integer not null default 1;`,
  `
  alter table head add column counted_from integer not null default 0;
  update head set counted_from = size;
  create table sources (
    source text primary key, reached integer not null, expected integer not null default 0, expected_at integer not null default 0
  ) without rowid;
  create table sources_ahead (
    source text not null, source_seq integer not null, at integer not null, primary key (source, source_seq)
  ) without rowid;
  `,
  `
  alter table head add column periodic integer not null default 0;
  alter table head add column periodic_changed_at integer not null default 0;
  create index execution_rows_by_seq on execution_rows (seq);
  create table context_rows (
    subject text not null, at integer not null, seq integer not null, primary key (subject, at, seq)
  ) without rowid;
  create table context_leaves (seq integer primary key, salt blob not null, body text not null);
  `,
  `
  alter table head add column indexed_to integer not null default 0;
  alter table head add column hours_to integer;
  alter table head add column hours_failures integer not null default 0;
  alter table head add column hours_retry_at integer;
  create table hour_counts (
    hour integer not null, type text not null, row_count integer not null, group_count integer not null, told integer not null,
    primary key (hour, type)
  ) without rowid;
  create table day_counts (
    day integer not null, type text not null, group_count integer not null, primary key (day, type)
  ) without rowid;
  `,
];

const versionOf = (sql: Sql): number => {
  if (sql.exec("select 1 from sqlite_master where name = 'tables_version'").length === 0) return 0;
  return sql.exec<{ version: number }>("select version from tables_version")[0]?.version ?? 0;
};

/** Makes the tables of a new object, and brings those of an older one up to date: all of it or nothing. */
export function openTables(sql: Sql): void {
  const from = versionOf(sql);
  if (from > versions.length) throw new Error("this log's tables are of a newer version of the product");
  if (from === versions.length) return;
  sql.transaction(() => {
    for (const statements of versions.slice(from)) sql.exec(statements);
    sql.exec(
      `create table if not exists tables_version (only integer primary key check (only = 1), version integer not null)`,
    );
    sql.exec(
      "insert into tables_version values (1, ?) on conflict (only) do update set version = excluded.version",
      versions.length,
    );
  });
}

type Blob = ArrayBuffer | Uint8Array;

/** The one row of `head`; times are milliseconds since 1970. */
export interface Head {
  readonly tenant_id: string;
  /** Rows in the log: the next `seq`. */
  readonly size: number;
  /** No row is logged with an earlier time. */
  readonly logged_at: number;
  readonly frontier: Blob;
  /** The last `source_seq` of the log's own events. */
  readonly audit_source_seq: number;
  /** Rows that are published, and the tree's frontier and signed head there. */
  readonly sealed: number;
  readonly sealed_frontier: Blob;
  readonly checkpoint: string | null;
  /** Rows that stand in Postgres; and when the newest of them was logged, 0 where that was before it was set down. */
  readonly indexed: number;
  readonly indexed_to: number;
  /** The UTC hours before it are sealed in Postgres, as far as it has answered; null: none. */
  readonly hours_to: number | null;
  /** When the rows behind `pending_to` (else behind `sealed`) want to be sealed. */
  readonly seal_due: number | null;
  /** The persisted range is [sealed, pending_to). */
  readonly pending_to: number | null;
  readonly pending_frontier: Blob | null;
  readonly pending_checkpoint: string | null;
  readonly pending_manifest: string | null;
  /** Of the segment that is being written; null: version 1, begun before there was another. */
  readonly pending_schema: SegmentSchemaVersion | null;
  /** Rows that were there before sources were counted. */
  readonly counted_from: number;
  readonly seal_failures: number;
  readonly seal_retry_at: number | null;
  readonly receipt_failures: number;
  readonly receipt_retry_at: number | null;
  readonly index_failures: number;
  readonly index_retry_at: number | null;
  readonly hours_failures: number;
  readonly hours_retry_at: number | null;
  /** 1: sealed once a period, since the flag audit_rt_export is off; and when that was said. */
  readonly periodic: 0 | 1;
  readonly periodic_changed_at: number;
}

/** Null where nothing was ever appended. */
export const readHead = (sql: Sql): Head | null =>
  (sql.exec("select * from head where id = 1")[0] as unknown as Head | undefined) ?? null;

export function setHead(sql: Sql, change: Readonly<Partial<Head>>): void {
  const names = Object.keys(change);
  sql.exec(`update head set ${names.map((name) => `${name} = ?`).join(", ")} where id = 1`, ...Object.values(change));
}

/** Makes the row on first use. Throws where the object is another tenant's. */
export function headFor(sql: Sql, tenantId: string): Head {
  sql.exec(
    "insert into head (id, tenant_id, frontier, sealed_frontier) values (1, ?, x'', x'') on conflict do nothing",
    tenantId,
  );
  const head = readHead(sql);
  if (head?.tenant_id !== tenantId) throw new Error("this log is another tenant's");
  return head;
}

export const liveFrontier = (head: Head): Frontier => frontierFrom(head.size, toBytes(head.frontier));
export const sealedFrontier = (head: Head): Frontier => frontierFrom(head.sealed, toBytes(head.sealed_frontier));
export const storedFrontier = (frontier: Frontier): Bytes => frontierBytes(frontier);

/**
 * The end of as many leaves as fit, from the first of `range` on: at most `rowsMax`, and `charactersMax` of text where that is
 * more than one. Null where one of them is missing.
 */
export function leavesEnd(sql: Sql, range: Range, rowsMax: number, charactersMax: number): number | null {
  const [found] = sql.exec<{ count: number; last: number | null }>(
    `select count(*) as count, max(seq) as last from (
       select seq, sum(length(body)) over (order by seq) as characters from leaves
       where seq >= ?1 and seq < ?2 order by seq limit ?3
     ) where characters <= ?4 or seq = ?1`,
    range.from,
    range.to,
    rowsMax,
    charactersMax,
  );
  const end = range.from + (found?.count ?? 0);
  return found?.last === end - 1 ? end : null;
}

export function readLeaves(sql: Sql, range: Range): LeafRow[] {
  return sql
    .exec<{ seq: number; salt: Blob; body: string }>(
      "select seq, salt, body from leaves where seq >= ? and seq < ? order by seq",
      range.from,
      range.to,
    )
    .map(({ seq, salt, body }) => ({ seq, salt: toBytes(salt), body }));
}

/** Copies of rare events that say what was in force, by subject: the newest first, none after `at`. */
export function readContext(sql: Sql, { subject, at, limit }: ContextQuery): LeafRow[] {
  return sql
    .exec<{ seq: number; salt: Blob; body: string }>(
      `select l.seq, l.salt, l.body from context_rows r join context_leaves l on l.seq = r.seq
       where r.subject = ? and r.at <= ? order by r.at desc, r.seq desc limit ?`,
      subject,
      at,
      limit,
    )
    .map(({ seq, salt, body }) => ({ seq, salt: toBytes(salt), body }));
}

/** The stored hashes of a tile, as many as there are; null where there is no such row (any more). */
export function readStoredTile(sql: Sql, level: number, index: number): Bytes | null {
  const [row] = sql.exec<{ hashes: Blob }>("select hashes from tiles where level = ? and n = ?", level, index);
  return row === undefined ? null : toBytes(row.hashes);
}

/** Tiles that one transaction adds hashes to: read once, written once. */
export class TileWriter {
  readonly #sql: Sql;
  readonly #tiles = new Map<string, { level: number; index: number; hashes: Bytes; count: number }>();

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  add(level: number, index: number, hash: Bytes): void {
    const tileIndex = Math.floor(index / 256);
    const key = `${level}/${tileIndex}`;
    let tile = this.#tiles.get(key);
    if (tile === undefined) {
      const stored = readStoredTile(this.#sql, level, tileIndex) ?? new Uint8Array(0);
      const hashes = new Uint8Array(256 * hashBytes);
      hashes.set(stored);
      tile = { level, index: tileIndex, hashes, count: stored.length / hashBytes };
      this.#tiles.set(key, tile);
    }
    if (tile.count !== index % 256) throw new Error(`tile ${key} has ${tile.count} hashes before ${index}`);
    tile.hashes.set(hash, tile.count * hashBytes);
    tile.count += 1;
  }

  flush(): void {
    for (const { level, index, hashes, count } of this.#tiles.values()) {
      this.#sql.exec(
        "insert into tiles (level, n, hashes) values (?, ?, ?) on conflict (level, n) do update set hashes = excluded.hashes",
        level,
        index,
        hashes.slice(0, count * hashBytes),
      );
    }
  }
}
