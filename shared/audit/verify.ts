// Verifies a tenant's log offline, from what was published: every segment present, rows → leaves → root → checkpoint →
// signatures, every typed column recomputed from the leaf's bytes, every byte of the file from its rows. `maestro audit verify` hands in a reader over the
// API or a folder, and the head that it remembers. Memory is one segment; nothing here trusts the service.

import { base64, bytesEqual, concat, hex, toBytes, utf8Text, type Bytes } from "../contract/bytes.ts";
import type { Anchoring, PublishedKeys } from "../contract/http-audit.ts";
import { verifyBundle } from "../signing/bundle.ts";
import { parseCanonical } from "../signing/canonical.ts";
import { checkpointKeys, isInForce, keyFor } from "../signing/published.ts";
import { openCheckpoint, originOf, type Checkpoint } from "./checkpoint.ts";
import { parseRange, rangeName, type Range } from "./layout.ts";
import { readManifest, type ManifestPredicate } from "./manifest.ts";
import type { Gzip } from "./segment.ts";
import { tileHeight, tilePath, tileWidth, type Tile } from "./tiles.ts";
import { appendLeafHash, emptyFrontier, hashBytes, rootOf, type Frontier, type OnNode, type Sha256 } from "./tree.ts";
import {
  checkerOf,
  loggedBefore,
  type SegmentChecker,
  type SegmentFault,
  type SegmentReport,
} from "./verify-segment.ts";

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
  /** Full tiles by tlog-tiles path (`0/x001/067`). Each must be that of its rows; and they name rows that are not the signed ones. */
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
  /** One after the other unless told. */
  readonly segments?: SegmentChecker;
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

interface Planned {
  readonly range: Range;
  readonly previous: Range | null;
}

interface Found {
  readonly range: Range;
  readonly manifest: ManifestPredicate;
  readonly tree: Checkpoint;
  readonly report: SegmentReport;
}

interface FullTile {
  readonly tile: Tile;
  /** 256 of them. */
  readonly hashes: readonly Bytes[];
}

/** Tiles that are read side by side. */
const tilesAtOnce = 8;

const hashAt = (hashes: Uint8Array, at: number): Uint8Array => hashes.subarray(at * hashBytes, (at + 1) * hashBytes);

/**
 * What `start` makes of each item, in their order, with up to `ahead` of them under way. What source or work throw is thrown
 * in its turn, behind what came before it.
 */
async function* lookAhead<Item, Result>(
  source: AsyncGenerator<Item, void>,
  ahead: number,
  start: (item: Item) => Promise<Result>,
): AsyncGenerator<Result, void> {
  const started: Promise<Result>[] = [];
  let isOver = false;
  for (;;) {
    while (!isOver && started.length < ahead) {
      const item = source.next();
      const next = await item.catch(() => null);
      isOver = next === null || next.done === true;
      let work: Promise<Result> | null = null;
      if (next === null) work = item as Promise<never>;
      else if (next.done !== true) work = start(next.value);
      // It is awaited in its turn; until then nobody has to be told that it failed.
      work?.catch(() => undefined);
      if (work !== null) started.push(work);
    }
    const first = started.shift();
    if (first === undefined) return;
    yield await first;
  }
}

class Verification {
  readonly #reader: LogReader;
  readonly #options: VerifyOptions;
  readonly #origin: string;
  readonly #checkpointKeys: readonly Bytes[];
  readonly #manifestKey: (kid: string) => Promise<CryptoKey | null>;
  readonly #checker: SegmentChecker;
  readonly #frontier: Frontier = emptyFrontier();
  /** Roots of anchored heads by size. */
  readonly #anchored = new Map<number, string[]>();
  /** By level: the hashes of the tile that is not full yet. */
  readonly #hashes = new Map<number, Bytes[]>();
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
    this.#checker = options.segments ?? checkerOf(options);
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
    let last: Checkpoint | null = null;
    const { ahead } = this.#checker;
    for await (const found of lookAhead(this.#planned(head), ahead, (planned) => this.#find(planned))) {
      last = await this.#range(found, head?.size ?? found.range.to);
    }
    return last;
  }

  /** The ranges as they are named, where they follow each other up to the head. */
  async *#planned(head: Checkpoint | null): AsyncGenerator<Planned, void> {
    let next = 0;
    let previous: Range | null = null;
    let after: string | null = null;
    for (;;) {
      const names = await this.#reader.ranges(after);
      if (names.length === 0) return;
      for (const name of names) {
        const range = parseRange(name);
        if (range === null) throw new Bad("TAMPERED", `${name} is not the name of a range`);
        // Sealed after the checkpoint was read.
        if (head !== null && range.from >= head.size && range.from === next) return;
        if (range.from > next) throw new Bad("GAP", `rows ${next} to ${range.from - 1} are not there`, next, null);
        if (range.from < next) throw new Bad("TAMPERED", `the range ${name} repeats rows`, range.from, range);
        if (head !== null && range.to > head.size) {
          throw new Bad("TAMPERED", "the checkpoint ends inside of a segment", head.size, range);
        }
        yield { range, previous };
        next = range.to;
        previous = range;
        after = name;
      }
    }
  }

  /** All that can be said of a range by itself. */
  async #find({ range, previous }: Planned): Promise<Found> {
    const { manifest, tree, segmentSha256 } = await this.#manifest(range, previous);
    const stored = await this.#reader.segment(rangeName(range));
    if (stored === null) throw new Bad("GAP", "the segment is not there", range.from, range);
    const report = await this.#checker.check({
      of: { tenantId: this.#options.tenantId, range, version: manifest.schema_version },
      bytes: toBytes(stored),
      signed: { sha256: segmentSha256, byteCount: manifest.segment_bytes },
    });
    return { range, manifest, tree, report };
  }

  async #range({ range, manifest, tree, report }: Found, total: number): Promise<Checkpoint> {
    if (report.is === "another") {
      const reason = "the segment is not the one that the manifest is about";
      throw new Bad("TAMPERED", reason, report.row ?? (await this.#firstOtherLeaf(report.leaves, range)), range);
    }
    if (report.is === "unreadable") throw new Bad("TAMPERED", report.reason, null, range);
    const tampered = ({ row, reason }: SegmentFault): Bad => new Bad("TAMPERED", reason, row, range);
    const { firstLoggedAt, lastLoggedAt } = report;
    if (firstLoggedAt !== null && firstLoggedAt < this.#loggedAt) throw tampered(loggedBefore(range.from));
    const tiles = this.#fold(report.leaves, range);
    if (report.row !== null) throw tampered(report.row);
    this.#loggedAt = lastLoggedAt ?? this.#loggedAt;
    if (manifest.first_logged_at !== firstLoggedAt || manifest.last_logged_at !== lastLoggedAt) {
      throw new Bad("TAMPERED", "the manifest has other times than its rows", null, range);
    }
    if (!bytesEqual(rootOf(this.#options.sha256, this.#frontier), tree.root)) {
      const row = await this.#firstOtherLeaf(report.leaves, range);
      throw new Bad("TAMPERED", "the rows do not lead to the signed root", row, range);
    }
    // The leaves are the signed ones: now what tools read and search, and what proofs are made from, must follow from them.
    if (report.file !== null) throw tampered(report.file);
    await this.#tiles(tiles, range);
    this.provenSize = this.#frontier.size;
    this.#options.onProgress?.(this.#frontier.size, total);
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

  /** Grows the tree by a range's leaves; answers the tiles that became full. */
  #fold(leaves: Bytes, range: Range): FullTile[] {
    const { sha256, remembered } = this.#options;
    const tiles: FullTile[] = [];
    const onNode: OnNode = (height, index, hash) => {
      if (height % tileHeight !== 0) return;
      const level = height / tileHeight;
      const hashes = this.#hashes.get(level) ?? [];
      hashes.push(hash);
      const isFull = hashes.length === tileWidth;
      this.#hashes.set(level, isFull ? [] : hashes);
      if (isFull) tiles.push({ tile: { level, index: Math.floor(index / tileWidth), width: tileWidth }, hashes });
    };
    for (let at = 0; at < leaves.length; at += hashBytes) {
      appendLeafHash(sha256, this.#frontier, leaves.subarray(at, at + hashBytes), onNode);
      if (this.#frontier.size === remembered?.size && hex(rootOf(sha256, this.#frontier)) !== remembered.root_sha256) {
        throw new Bad("DIVERGED", `the first ${remembered.size} rows are not the ones remembered`, null, range);
      }
      this.#checkAnchored(range);
    }
    return tiles;
  }

  /** A tile is a function of the rows under it: proofs are made from tiles. */
  async #tiles(tiles: readonly FullTile[], range: Range): Promise<void> {
    for (let from = 0; from < tiles.length; from += tilesAtOnce) {
      const some = tiles.slice(from, from + tilesAtOnce);
      const read = async ({ tile }: FullTile) => await this.#reader.tile?.(tilePath(tile));
      const stored = await Promise.all(some.map(read));
      for (const [at, { tile, hashes }] of some.entries()) {
        const bytes = stored[at];
        if (bytes === undefined) continue; // this reader has no tiles
        const [path, rowsOfHash] = [tilePath(tile), tileWidth ** tile.level];
        const firstRow = tile.index * tileWidth * rowsOfHash;
        if (bytes === null) throw new Bad("GAP", `the tile ${path} is not there`, firstRow, range);
        if (bytesEqual(bytes, concat(...hashes))) continue;
        const other = hashes.findIndex((hash, at) => !bytesEqual(hash, hashAt(bytes, at)));
        const row = firstRow + Math.max(0, other) * rowsOfHash;
        throw new Bad("TAMPERED", `the tile ${path} is not that of its rows`, row, range);
      }
    }
  }

  /** The first row that the tiles do not know. */
  async #firstOtherLeaf(leaves: Bytes, range: Range): Promise<number | null> {
    let tile: Uint8Array | null = null;
    let tileIndex = -1;
    for (let row = range.from; (row - range.from) * hashBytes < leaves.length; row += 1) {
      const index = Math.floor(row / tileWidth);
      if (index !== tileIndex) {
        tileIndex = index;
        tile = (await this.#reader.tile?.(tilePath({ level: 0, index, width: tileWidth }))) ?? null;
      }
      const known = tile === null ? null : hashAt(tile, row - index * tileWidth);
      if (known?.length !== hashBytes) return null;
      if (!bytesEqual(known, hashAt(leaves, row - range.from))) return row;
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
