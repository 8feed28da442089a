// Sealing a tenant's log: the next range of rows becomes tiles, a segment, a signed checkpoint and a signed manifest in
// the bucket, each put if absent. The order of effects and what stands where after a crash: docs/audit/RECOVERY.md.
// Called by shared/audit/log.ts, one at a time.

import { sha256Hex, toBytes, utf8, type Bytes } from "../contract/bytes.ts";
import { canonicalJson, type LoggedEvent } from "../contract/events.ts";
import type { Bucket, Log, Sql } from "../contract/ports.ts";
import { signStatement } from "../signing/bundle.ts";
import type { Signer } from "../signing/keys.ts";
import { originOf, signCheckpoint } from "./checkpoint.ts";
import { manifestKey, segmentKey, tileKey, type Range } from "./layout.ts";
import { manifestStatement, type ManifestParts } from "./manifest.ts";
import { rowOf, segmentBodyBytesMax, segmentFault, segmentRowsMax, writeSegment, type Gzip } from "./segment.ts";
import { newestSchema, type SegmentSchemaVersion } from "./segment-schema.ts";
import type { LeafRow } from "./service.ts";
import {
  leavesEnd,
  liveFrontier,
  readHead,
  readLeaves,
  readStoredTile,
  sealedFrontier,
  setHead,
  storedFrontier,
  type Head,
} from "./tables.ts";
import { fullTilesBetween, tileBytes, tileWidth, type Tile } from "./tiles.ts";
import { appendLeafHash, frontierFrom, hashBytes, rootOf, type Frontier, type Sha256 } from "./tree.ts";

/** Rows that stay in the object after they are sealed and indexed, for proofs and packs of runs that just ended. */
export const keptRows = 20_000;
/** Event ids are remembered for longer than queue, retries and dead letters can hold a message (14 days each at most). */
export const dedupeMs = 45 * 24 * 3_600_000;
const prunedRowsMax = 20_000;

export interface LogSigners {
  /** Ed25519. */
  readonly checkpoint: Signer;
  /** P-256: manifests and receipts. */
  readonly statement: Signer;
}

export interface SealParts {
  readonly sql: Sql;
  readonly sha256: Sha256;
  readonly gzip: Gzip;
  readonly bucket: Bucket;
  readonly log: Log;
  /** Origin of a tenant's log: `{originPrefix}/{tenant_id}`. */
  readonly originPrefix: string;
  /**
   * What `work` makes with the signers in force; it is called anew where a key was rotated under it. `at`: the time that is said
   * in what is signed, in ms.
   */
  readonly signed: <T>(at: number, work: (signers: LogSigners) => Promise<T>) => Promise<T>;
}

/** The log does not add up. Unlike other errors' messages, this one holds no payload: keys, digests and row numbers. */
export class LogFault extends Error {
  override readonly name: string = "LogFault";
}

/** Something else than ours stands under a key that is never rewritten. Nothing was changed. */
class StoredOtherwise extends LogFault {
  override readonly name = "StoredOtherwise";
}

/**
 * Seals one range, or goes on with the one that was begun. False where nothing wants to be sealed yet (`force`: where
 * there is no row to seal). Throws what bucket and signers throw: call again later.
 */
export async function sealOnce(parts: SealParts, now: number, force: boolean): Promise<boolean> {
  const planned = parts.sql.transaction(() => plan(parts, now, force));
  if (planned === null) return false;
  const { head, range } = planned;
  for (const tile of fullTilesBetween(range.from, range.to)) {
    const bytes = await readTile(parts, head.tenant_id, tile);
    await putOnce(parts, tileKey(head.tenant_id, tile), bytes, "application/octet-stream");
  }
  const manifest = head.pending_manifest ?? (await publishSegment(parts, head, range, now));
  await putOnce(parts, manifestKey(head.tenant_id, range), utf8(manifest), "application/json");
  parts.sql.transaction(() => advance(parts.sql, range, now));
  return true;
}

interface Planned {
  readonly head: Head;
  readonly range: Range;
}

/** The range is persisted, with the tree at its end, before anything of it is put: a retry seals the same rows. */
function plan({ sql, sha256 }: SealParts, now: number, force: boolean): Planned | null {
  const head = readHead(sql);
  if (head === null) return null;
  if (head.pending_to !== null) return { head, range: { from: head.sealed, to: head.pending_to } };
  if (head.size === head.sealed) return null;
  if (!force && (head.seal_due === null || head.seal_due > now)) return null;
  const range = { from: head.sealed, to: rangeEnd(sql, head) };
  const frontier = range.to === head.size ? liveFrontier(head) : grow(sql, sha256, sealedFrontier(head), range.to);
  setHead(sql, {
    pending_to: range.to,
    pending_frontier: storedFrontier(frontier),
    pending_schema: newestSchema,
    seal_due: range.to < head.size ? now : null,
  });
  const planned = readHead(sql);
  return planned === null ? null : { head: planned, range };
}

function rangeEnd(sql: Sql, head: Head): number {
  const to = leavesEnd(sql, { from: head.sealed, to: head.size }, segmentRowsMax, segmentBodyBytesMax);
  if (to === null) throw new LogFault(`a row behind row ${head.sealed} is missing from the log's object`);
  return to;
}

function grow(sql: Sql, sha256: Sha256, frontier: Frontier, to: number): Frontier {
  while (frontier.size < to) {
    const index = Math.floor(frontier.size / tileWidth);
    const hashes = readStoredTile(sql, 0, index);
    const end = Math.min(to, (index + 1) * tileWidth);
    for (let at = frontier.size - index * tileWidth; frontier.size < end; at += 1) {
      const hash = hashes?.slice(at * hashBytes, (at + 1) * hashBytes);
      if (hash?.length !== hashBytes) throw new LogFault(`the hash of row ${frontier.size} is missing`);
      appendLeafHash(sha256, frontier, hash);
    }
  }
  return frontier;
}

/** Puts the segment, then signs checkpoint and manifest and persists both, so that a size is never signed twice. */
async function publishSegment(parts: SealParts, head: Head, range: Range, now: number): Promise<string> {
  const leaves = readLeaves(parts.sql, range);
  const segment = await putSegment(parts, head.tenant_id, range, leaves, head.pending_schema ?? 1);
  const root = rootOf(parts.sha256, frontierFrom(range.to, toBytes(head.pending_frontier ?? new Uint8Array(0))));
  const origin = originOf(parts.originPrefix, head.tenant_id);
  const [previous] = parts.sql.exec<{ from_seq: number; to_seq: number }>(
    "select from_seq, to_seq from ranges order by from_seq desc limit 1",
  );
  const { checkpoint, manifest } = await parts.signed(now, async (signers) => {
    const checkpoint = await signCheckpoint(signers.checkpoint, { origin, size: range.to, root });
    const statement = manifestStatement({
      tenantId: head.tenant_id,
      range,
      previous: previous === undefined ? null : { from: previous.from_seq, to: previous.to_seq },
      segment,
      root,
      sealedAt: new Date(now).toISOString(),
      firstLoggedAt: loggedAt(leaves.at(0)),
      lastLoggedAt: loggedAt(leaves.at(-1)),
      checkpoint,
    });
    return { checkpoint, manifest: canonicalJson(await signStatement(signers.statement, statement)) };
  });
  parts.sql.transaction(() => setHead(parts.sql, { pending_checkpoint: checkpoint, pending_manifest: manifest }));
  return manifest;
}

const loggedAt = (leaf: LeafRow | undefined): string => {
  if (leaf === undefined) throw new LogFault("a sealed range has rows");
  return (JSON.parse(leaf.body) as LoggedEvent).logged_at;
};

async function putSegment(
  parts: SealParts,
  tenantId: string,
  range: Range,
  leaves: readonly LeafRow[],
  version: SegmentSchemaVersion,
): Promise<ManifestParts["segment"]> {
  const of = { tenantId, range, version };
  const bytes = writeSegment(of, leaves, parts.gzip);
  const key = segmentKey(tenantId, range);
  try {
    const sha256 = await putOnce(parts, key, bytes, "application/vnd.apache.parquet");
    return { sha256, byteCount: bytes.length, schemaVersion: version };
  } catch (error) {
    if (!(error instanceof StoredOtherwise)) throw error;
    const stored = await parts.bucket.get(key);
    const rows = leaves.map(rowOf);
    if (stored === null || segmentFault(of, stored, rows, parts.gzip) !== null) throw error;
    parts.log("warn", "the segment stands with the same rows in other bytes; taken as it is", {
      tenant_id: tenantId,
      key,
    });
    return { sha256: await sha256Hex(stored), byteCount: stored.length, schemaVersion: version };
  }
}

/** Resolves to the digest once `bytes` are durable under `key`, put now or before. */
async function putOnce(parts: SealParts, key: string, bytes: Bytes, contentType: string): Promise<string> {
  const sha256 = await sha256Hex(bytes);
  if ((await parts.bucket.putIfAbsent(key, bytes, { contentType, sha256 })) === "exists") {
    const stored = await parts.bucket.digest(key);
    if (stored !== sha256) throw new StoredOtherwise(`${key} holds ${stored ?? "nothing"}, not ${sha256}`);
  }
  return sha256;
}

function advance(sql: Sql, range: Range, now: number): void {
  const head = readHead(sql);
  if (head?.sealed !== range.from || head.pending_to !== range.to || head.pending_manifest === null) {
    throw new LogFault("another seal came in between");
  }
  sql.exec(
    "insert into ranges (from_seq, to_seq, sealed_at, schema_version) values (?, ?, ?, ?)",
    range.from,
    range.to,
    now,
    head.pending_schema ?? 1,
  );
  setHead(sql, {
    sealed: range.to,
    sealed_frontier: head.pending_frontier ?? new Uint8Array(0),
    checkpoint: head.pending_checkpoint,
    pending_to: null,
    pending_frontier: null,
    pending_checkpoint: null,
    pending_manifest: null,
    pending_schema: null,
    // Here and not with the caller: whoever sealed, on demand too, the next seal has no failure to wait for.
    seal_failures: 0,
    seal_retry_at: null,
  });
  prune(sql, now);
}

/** What the bucket and Postgres have, and nobody is likely to ask for here, goes; a bounded number of rows at a time. */
export function prune(sql: Sql, now: number): void {
  const head = readHead(sql);
  if (head === null) return;
  const [due] = sql.exec<{ seq: number | null }>("select min(seq) as seq from receipts_due");
  const before = Math.min(head.sealed, head.indexed, due?.seq ?? head.size) - keptRows;
  if (before > 0) {
    sql.exec(
      "delete from leaves where seq in (select seq from leaves where seq < ? order by seq limit ?)",
      before,
      prunedRowsMax,
    );
    sql.exec("delete from tiles where level = 0 and n < ?", Math.floor(before / tileWidth));
  }
  const [old] = sql.exec<{ to_seq: number }>(
    "select to_seq from ranges where sealed_at < ? order by sealed_at desc limit 1",
    now - dedupeMs,
  );
  if (old !== undefined) {
    sql.exec(
      "delete from seen where event_id in (select event_id from seen where seq < ? order by seq limit ?)",
      old.to_seq,
      prunedRowsMax,
    );
    // A run at a time, so that of each the object knows all rows up to its end or none: packs tell by the first one.
    sql.exec(
      `delete from execution_rows where execution_id in (
         select execution_id from execution_rows where seq < ? order by seq limit ?
       ) and not exists (
         select 1 from execution_rows as later where later.execution_id = execution_rows.execution_id and later.seq >= ?
       )`,
      old.to_seq,
      prunedRowsMax,
      old.to_seq,
    );
  }
}

/** A tile's hashes at its width, from the object, else from the bucket, where full tiles are for ever. */
export async function readTile(parts: Pick<SealParts, "sql" | "bucket">, tenantId: string, tile: Tile): Promise<Bytes> {
  const stored = readStoredTile(parts.sql, tile.level, tile.index);
  const hashes = stored ?? (await parts.bucket.get(tileKey(tenantId, { ...tile, width: tileWidth })));
  if (hashes === null || hashes.length < tileBytes(tile))
    throw new LogFault(`tile ${tile.level}/${tile.index} is missing`);
  return hashes.slice(0, tileBytes(tile));
}
