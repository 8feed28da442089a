// Verifies a tenant's log offline, from what was published: every segment present, rows → leaves → root → checkpoint →
// signatures, every typed column recomputed from the leaf's bytes, every byte of the file from its rows. `maestro audit verify` hands in a reader over the
// API or a folder, and the head that it remembers. Memory is one segment; nothing here trusts the service.

import { base64, bytesEqual, hex, sha256Hex, toBytes, utf8Text, type Bytes } from "../contract/bytes.ts";
import { eventColumns } from "../contract/events.ts";
import type { Anchoring, PublishedKeys } from "../contract/http-audit.ts";
import { verifyBundle } from "../signing/bundle.ts";
import { parseCanonical } from "../signing/canonical.ts";
import { checkpointKeys, isInForce, keyFor } from "../signing/published.ts";
import { openCheckpoint, originOf, type Checkpoint } from "./checkpoint.ts";
import { hashLeaf, parseLeaf, saltBytes } from "./leaf.ts";
import { parseRange, rangeName, type Range } from "./layout.ts";
import { readManifest, type ManifestPredicate } from "./manifest.ts";
import { readLeaves, readSegment, segmentFault, type Gzip } from "./segment.ts";
import { columnsOf, newestSchema, type SegmentRow, type SegmentSchemaVersion } from "./segment-schema.ts";
import type { LeafRow } from "./service.ts";
import { tilePath, tileWidth } from "./tiles.ts";
import { appendLeafHash, emptyFrontier, hashBytes, rootOf, type Frontier, type Sha256 } from "./tree.ts";

/** What was published, wherever it lies. Ranges are names as in the manifest's key: `{from:020}-{to:020}`. */
export interface LogReader {
  /** The newest signed checkpoint; null where there is none: then the newest manifest's counts. */
  checkpoint(): Promise<string | null>;
  /** The next ranges in order, strictly after `after`; empty at the end. */
  ranges(after: string | null): Promise<readonly string[]>;
  manifest(range: string): Promise<Uint8Array | null>;
  segment(range: string): Promise<Uint8Array | null>;
  /** Where heads of this log stand in the anchor log, newest first; for witnessed.ts. Read before anything else. */
  anchorings?(): Promise<readonly Anchoring[]>;
  /** By tlog-tiles path (`0/x001/067`). Only asked for to name the first bad row of a segment that is not the signed one. */
  tile?(path: string): Promise<Uint8Array | null>;
}

export interface RememberedHead {
  readonly size: number;
  readonly root_sha256: string;
}

export interface VerifyOptions {
  readonly tenantId: string;
  /** From elsewhere than the log: pinned, or remembered from the first time. */
  readonly keys: PublishedKeys;
  readonly sha256: Sha256;
  readonly gzip: Gzip;
  /** The head that this verifier saw last time. Without one a cut-off tail cannot be seen. */
  readonly remembered: RememberedHead | null;
  /** Heads that stand in the anchor log: the log must have them, as it must have the remembered one. */
  readonly witnessed?: readonly RememberedHead[];
  readonly onProgress?: (rows: number, total: number) => void;
}

/**
 * VERIFIED     all of it, and it continues the remembered head
 * VERIFIED-TO  all of it up to `size`; whether there was more, nobody here remembers
 * GAP          something signed is not there
 * TAMPERED     something is there that was not signed
 * DIVERGED     two signed heads that cannot both be true
 * UNWITNESSED  all of it, but fewer witnesses agree than the policy asks for (witnessed.ts)
 */
export type VerdictWord = "VERIFIED" | "VERIFIED-TO" | "GAP" | "TAMPERED" | "DIVERGED" | "UNWITNESSED";

export interface LogVerdict {
  readonly verdict: VerdictWord;
  /** One sentence for people. */
  readonly reason: string;
  /** Rows that are proven, from 0. */
  readonly size: number;
  /** What to remember for the next time; null unless verified. */
  readonly head: RememberedHead | null;
  /** The first thing that is wrong: a row where it can be named, and the range it is in. */
  readonly first_bad: { readonly row: number | null; readonly range: string | null } | null;
}

class Bad extends Error {
  readonly word: VerdictWord;
  readonly row: number | null;
  readonly range: Range | null;
  constructor(word: VerdictWord, reason: string, row: number | null = null, range: Range | null = null) {
    super(reason);
    this.word = word;
    this.row = row;
    this.range = range;
  }
}

/** Throws only what the reader throws; everything about the log is in the verdict. */
export async function verifyLog(reader: LogReader, options: VerifyOptions): Promise<LogVerdict> {
  const run = new Verification(reader, options);
  try {
    const head = await run.verify();
    const isRemembered = options.remembered !== null && options.remembered.size > 0;
    return {
      verdict: isRemembered ? "VERIFIED" : "VERIFIED-TO",
      reason: isRemembered
        ? `all ${head.size} rows are as signed, and continue the ${options.remembered?.size} remembered ones`
        : `rows 0 to ${head.size} are as signed; no head was remembered, so rows after them would not be missed`,
      size: head.size,
      head,
      first_bad: null,
    };
  } catch (error) {
    if (!(error instanceof Bad)) throw error;
    return {
      verdict: error.word,
      reason: error.message,
      size: run.provenSize,
      head: null,
      first_bad: { row: error.row, range: error.range === null ? null : rangeName(error.range) },
    };
  }
}

/** The first column, but salt and body, in which the rows differ; columns that the segment has not are not asked. */
const otherColumn = (row: SegmentRow, expected: SegmentRow): string | null =>
  columnsOf(newestSchema).find(({ name, type }) => type !== "BYTE_ARRAY" && name in row && row[name] !== expected[name])
    ?.name ?? null;

class Verification {
  readonly #reader: LogReader;
  readonly #options: VerifyOptions;
  readonly #origin: string;
  readonly #checkpointKeys: readonly Bytes[];
  readonly #manifestKey: (kid: string) => Promise<CryptoKey | null>;
  readonly #frontier: Frontier = emptyFrontier();
  /** Roots of anchored heads by size. */
  readonly #anchored = new Map<number, string[]>();
  #loggedAt = "";
  provenSize = 0;

  constructor(reader: LogReader, options: VerifyOptions) {
    this.#reader = reader;
    this.#options = options;
    this.#origin = originOf(options.keys.origin_prefix, options.tenantId);
    this.#checkpointKeys = checkpointKeys(options.keys);
    this.#manifestKey = keyFor(options.keys, "manifest");
    for (const { size, root_sha256 } of options.witnessed ?? []) {
      this.#anchored.set(size, [...(this.#anchored.get(size) ?? []), root_sha256]);
    }
  }

  async verify(): Promise<RememberedHead> {
    const { remembered, sha256 } = this.#options;
    const note = await this.#reader.checkpoint();
    const head = note === null ? null : await this.#openNote(note, null);
    const end = await this.#ranges(head);
    const size = head?.size ?? end?.size ?? 0;
    if (this.#frontier.size < size) {
      throw new Bad(
        "GAP",
        `rows ${this.#frontier.size} to ${size - 1} are signed for and not there`,
        this.#frontier.size,
      );
    }
    const root = rootOf(sha256, this.#frontier);
    if (head !== null && !bytesEqual(root, head.root)) {
      throw new Bad("DIVERGED", `the checkpoint of ${size} rows has another root than their manifest`);
    }
    if (remembered !== null && remembered.size > size) {
      throw new Bad(
        "GAP",
        `${remembered.size} rows were there before; rows ${size} to ${remembered.size - 1} are cut off`,
        size,
      );
    }
    const anchored = Math.max(0, ...this.#anchored.keys());
    if (anchored > size) {
      throw new Bad("GAP", `${anchored} rows are anchored; rows ${size} to ${anchored - 1} are cut off`, size);
    }
    return { size, root_sha256: hex(root) };
  }

  /** At each row: an anchored head of this size has this root. */
  #checkAnchored(range: Range): void {
    const { size } = this.#frontier;
    const roots = this.#anchored.get(size);
    if (roots === undefined) return;
    const root = hex(rootOf(this.#options.sha256, this.#frontier));
    if (roots.some((anchored) => anchored !== root)) {
      throw new Bad("DIVERGED", `the first ${size} rows are not the ones that are anchored`, null, range);
    }
  }

  /** Verifies range after range up to the head, or to the last one where there is no head; answers the last tree. */
  async #ranges(head: Checkpoint | null): Promise<Checkpoint | null> {
    let previous: Range | null = null;
    let last: Checkpoint | null = null;
    let after: string | null = null;
    for (;;) {
      const names = await this.#reader.ranges(after);
      if (names.length === 0) return last;
      for (const name of names) {
        const range = parseRange(name);
        if (range === null) throw new Bad("TAMPERED", `${name} is not the name of a range`);
        // Sealed after the checkpoint was read.
        if (head !== null && range.from >= head.size && range.from === this.#frontier.size) return last;
        const next = this.#frontier.size;
        if (range.from > next) throw new Bad("GAP", `rows ${next} to ${range.from - 1} are not there`, next, null);
        if (range.from < next) throw new Bad("TAMPERED", `the range ${name} repeats rows`, range.from, range);
        if (head !== null && range.to > head.size) {
          throw new Bad("TAMPERED", "the checkpoint ends inside of a segment", head.size, range);
        }
        last = await this.#range(range, previous, head?.size ?? range.to);
        previous = range;
        after = name;
      }
    }
  }

  async #range(range: Range, previous: Range | null, total: number): Promise<Checkpoint> {
    const { manifest, tree, segmentSha256 } = await this.#manifest(range, previous);
    const { bytes, leaves } = await this.#segment(range, manifest, segmentSha256);
    const { tenantId, gzip, sha256, remembered, onProgress } = this.#options;
    const rows: SegmentRow[] = [];
    for (const leaf of leaves) {
      const row = this.#nextRow(leaf, range);
      rows.push(row);
      appendLeafHash(sha256, this.#frontier, hashLeaf(sha256, row.salt, row.body));
      if (this.#frontier.size === remembered?.size && hex(rootOf(sha256, this.#frontier)) !== remembered.root_sha256) {
        throw new Bad("DIVERGED", `the first ${remembered.size} rows are not the ones remembered`, null, range);
      }
      this.#checkAnchored(range);
    }
    if (manifest.first_logged_at !== rows[0]?.logged_at || manifest.last_logged_at !== rows.at(-1)?.logged_at) {
      throw new Bad("TAMPERED", "the manifest has other times than its rows", null, range);
    }
    if (!bytesEqual(rootOf(sha256, this.#frontier), tree.root)) {
      throw new Bad("TAMPERED", "the rows do not lead to the signed root", await this.#firstOtherLeaf(rows), range);
    }
    // The leaves are the signed ones: now the rest of the file, which tools read and search, must follow from them.
    const version = manifest.schema_version;
    const fault = segmentFault({ tenantId, range, version }, bytes, rows, gzip);
    if (fault !== null) throw await this.#columnFault(bytes, rows, range, version, fault);
    this.provenSize = this.#frontier.size;
    onProgress?.(this.#frontier.size, total);
    return tree;
  }

  async #manifest(
    range: Range,
    previous: Range | null,
  ): Promise<{ manifest: ManifestPredicate; tree: Checkpoint; segmentSha256: string }> {
    const bytes = await this.#reader.manifest(rangeName(range));
    if (bytes === null) throw new Bad("GAP", "the manifest is not there", range.from, range);
    const bundle = parseCanonical(this.#text(bytes, range));
    if (bundle === undefined) throw new Bad("TAMPERED", "the manifest is not canonical JSON (RFC 8785)", null, range);
    const verified = await verifyBundle(bundle, this.#manifestKey);
    if (!verified.ok) throw new Bad("TAMPERED", `the manifest: ${verified.reason}`, null, range);
    const read = readManifest(verified.statement, this.#options.tenantId, range);
    if (!read.ok) throw new Bad("TAMPERED", read.reason, null, range);
    const { sealed_at: sealedAt } = read.predicate;
    const key = this.#options.keys.keys.find(({ kid, use }) => kid === verified.kid && use === "manifest");
    if (key === undefined || !isInForce(key, sealedAt)) {
      throw new Bad("TAMPERED", "the manifest is from before or after the time of the key that signed it", null, range);
    }
    if (read.predicate.previous !== (previous === null ? null : rangeName(previous))) {
      throw new Bad("TAMPERED", "the manifest follows another range", null, range);
    }
    const tree = await this.#openNote(read.predicate.checkpoint, range, sealedAt);
    return { manifest: read.predicate, tree, segmentSha256: read.segmentSha256 };
  }

  #text(bytes: Uint8Array, range: Range): string {
    try {
      return utf8Text(bytes);
    } catch {
      throw new Bad("TAMPERED", "the manifest is not UTF-8", null, range);
    }
  }

  async #segment(
    range: Range,
    manifest: ManifestPredicate,
    segmentSha256: string,
  ): Promise<{ bytes: Bytes; leaves: LeafRow[] }> {
    const stored = await this.#reader.segment(rangeName(range));
    if (stored === null) throw new Bad("GAP", "the segment is not there", range.from, range);
    const bytes = toBytes(stored);
    const isSigned = bytes.length === manifest.segment_bytes && (await sha256Hex(bytes)) === segmentSha256;
    const { tenantId, gzip } = this.#options;
    const of = { tenantId, range, version: manifest.schema_version };
    if (!isSigned) {
      const reason = "the segment is not the one that the manifest is about";
      const other = await readSegment(of, bytes, gzip);
      throw new Bad("TAMPERED", reason, other.ok ? await this.#firstBadRow(other.rows, range) : null, range);
    }
    const read = await readLeaves(of, bytes, gzip);
    if (!read.ok) throw new Bad("TAMPERED", read.reason, null, range);
    return { bytes, leaves: read.leaves };
  }

  #nextRow(leaf: LeafRow, range: Range): SegmentRow {
    const seq = this.#frontier.size;
    const row = this.#rowOf(leaf, seq, range);
    if (row.logged_at < this.#loggedAt)
      throw new Bad("TAMPERED", `row ${seq} was logged before the row ahead of it`, seq, range);
    this.#loggedAt = row.logged_at;
    return row;
  }

  /** What a segment has to say about this leaf. */
  #rowOf({ salt, body }: Pick<LeafRow, "salt" | "body">, seq: number, range: Range): SegmentRow {
    const bad = (reason: string): Bad => new Bad("TAMPERED", `row ${seq}: ${reason}`, seq, range);
    if (salt.length !== saltBytes) throw bad("the salt has not 16 bytes");
    const leaf = parseLeaf(body);
    if (!leaf.ok) throw bad(leaf.reason);
    if (leaf.event.seq !== seq) throw bad(`the leaf is that of row ${leaf.event.seq}`);
    if (leaf.event.tenant_id !== this.#options.tenantId) throw bad("the leaf is another tenant's");
    return { ...eventColumns(leaf.event, leaf.attrs), salt, body, source_seq: leaf.event.source_seq };
  }

  /** Of a signed segment whose leaves are right: the first column that is not what its leaf says, else what else is wrong. */
  async #columnFault(
    bytes: Bytes,
    rows: readonly SegmentRow[],
    range: Range,
    version: SegmentSchemaVersion,
    fault: string,
  ): Promise<Bad> {
    const { tenantId, gzip } = this.#options;
    const read = await readSegment({ tenantId, range, version }, bytes, gzip);
    if (!read.ok) return new Bad("TAMPERED", read.reason, null, range);
    for (const [at, row] of read.rows.entries()) {
      const name = otherColumn(row, rows[at]!);
      if (name === null) continue;
      return new Bad("TAMPERED", `row ${row.seq}: the column ${name} is not what the leaf says`, row.seq, range);
    }
    return new Bad("TAMPERED", `the segment is not what its rows make: ${fault}`, null, range);
  }

  /** Of a segment that is not the signed one: the first row that contradicts itself, else the first that the tiles do not know. */
  async #firstBadRow(rows: readonly SegmentRow[], range: Range): Promise<number | null> {
    for (const [at, row] of rows.entries()) {
      try {
        if (otherColumn(row, this.#rowOf(row, range.from + at, range)) !== null) return range.from + at;
      } catch (error) {
        if (error instanceof Bad) return range.from + at;
        throw error;
      }
    }
    return await this.#firstOtherLeaf(rows);
  }

  async #firstOtherLeaf(rows: readonly SegmentRow[]): Promise<number | null> {
    const { sha256 } = this.#options;
    let hashes: Uint8Array | null = null;
    let tileIndex = -1;
    for (const row of rows) {
      const index = Math.floor(row.seq / tileWidth);
      if (index !== tileIndex) {
        tileIndex = index;
        hashes = (await this.#reader.tile?.(tilePath({ level: 0, index, width: tileWidth }))) ?? null;
      }
      const at = (row.seq - index * tileWidth) * hashBytes;
      if (hashes === null || hashes.length < at + hashBytes) return null;
      if (!bytesEqual(hashes.subarray(at, at + hashBytes), hashLeaf(sha256, row.salt, row.body))) return row.seq;
    }
    return null;
  }

  /** `sealedAt`: when it was signed, as its manifest says; a head that is served says nothing of that. */
  async #openNote(note: string, range: Range | null, sealedAt: string | null = null): Promise<Checkpoint> {
    const opened = await openCheckpoint(note, this.#origin, this.#checkpointKeys);
    if (!opened.ok) throw new Bad("TAMPERED", opened.reason, null, range);
    const spki = base64(opened.spki);
    const key = this.#options.keys.keys.find((one) => one.use === "checkpoint" && one.spki === spki);
    if (key === undefined || (sealedAt !== null && !isInForce(key, sealedAt))) {
      throw new Bad(
        "TAMPERED",
        "the checkpoint is from before or after the time of the key that signed it",
        null,
        range,
      );
    }
    return opened.checkpoint;
  }
}
