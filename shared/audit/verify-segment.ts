// What can be said of one segment by itself: whether it is the signed file, what its leaves hash to, whether each row is the
// one that belongs there, and whether every other byte follows from the leaves. Pure, so that segments are checked side by
// side: verify.ts hands them out, and puts what comes back in order. On the command line a thread does this (cli/segment-pool.ts).

import { bytesEqual, concat, hex, type Bytes } from "../contract/bytes.ts";
import { eventColumns } from "../contract/events.ts";
import { hashLeaf, parseLeaf, saltBytes } from "./leaf.ts";
import { columnsByPattern, type LeafColumns } from "./leaf-pattern.ts";
import {
  isSurelySegmentOf,
  readLeaves,
  readSegment,
  segmentFault,
  type Gzip,
  type SegmentIdentity,
  type StoredLeaf,
} from "./segment.ts";
import { columnsOf, type SegmentRow } from "./segment-schema.ts";
import type { LeafRow } from "./service.ts";
import { hashBytes, type Sha256 } from "./tree.ts";

export interface SegmentTask {
  readonly of: SegmentIdentity;
  /** The file as it was found. */
  readonly bytes: Bytes;
  /** What the manifest says of it. */
  readonly signed: { readonly sha256: string; readonly byteCount: number };
}

/** What is wrong with a row, or with the file where no row can be named. */
export interface SegmentFault {
  readonly row: number | null;
  readonly reason: string;
}

export type SegmentReport =
  /**
   * Not the signed file. `row`: the first that contradicts itself; `leaves`: what its rows hash to, as far as it can be
   * read, so that the tiles can name a row that does not.
   */
  | { readonly is: "another"; readonly row: number | null; readonly leaves: Bytes }
  /** Signed as it is, and no segment. */
  | { readonly is: "unreadable"; readonly reason: string }
  /** `leaves`: 32 bytes for each row before the first bad one. `file`: of leaves that are all right, what does not follow from them. */
  | {
      readonly is: "read";
      readonly leaves: Bytes;
      readonly firstLoggedAt: string | null;
      readonly lastLoggedAt: string | null;
      readonly row: SegmentFault | null;
      readonly file: SegmentFault | null;
    };

/** How segments are checked: here and now, or in threads. */
export interface SegmentChecker {
  /** Segments that are asked for before the first of them is reported on: this bounds the memory. */
  readonly ahead: number;
  check(task: SegmentTask): Promise<SegmentReport>;
}

export interface SegmentParts {
  readonly sha256: Sha256;
  readonly gzip: Gzip;
}

/** One after the other, where nothing can run side by side. */
export const checkerOf = (parts: SegmentParts): SegmentChecker => ({
  ahead: 1,
  check: (task) => checkSegment(task, parts),
});

export async function checkSegment({ of, bytes, signed }: SegmentTask, parts: SegmentParts): Promise<SegmentReport> {
  const { sha256 } = parts;
  const gzip = remembering(parts.gzip);
  if (bytes.length !== signed.byteCount || hex(sha256(bytes)) !== signed.sha256) {
    const read = await readSegment(of, bytes, gzip);
    return read.ok ? anotherSegment(read.rows, of, sha256) : { is: "another", row: null, leaves: new Uint8Array(0) };
  }
  const read = await readLeaves(of, bytes, gzip);
  if (!read.ok) return { is: "unreadable", reason: read.reason };
  const sure = new RowsInTurn(of, read.leaves, sha256);
  if (isSurelySegmentOf(of, bytes, sure, gzip)) return reportOf(sure, null);
  // Once more from the first row, by the way that says what is wrong.
  const rows = new RowsInTurn(of, read.leaves, sha256);
  const fault = segmentFault(of, bytes, rows, gzip);
  // Where the file ended the comparison, there are rows to be looked at yet: what is wrong with one of them comes first.
  rows.finish();
  return reportOf(
    rows,
    rows.fault === null && fault !== null ? await fileFault(of, bytes, fault, read.leaves, gzip) : null,
  );
}

const reportOf = (rows: RowsInTurn, file: SegmentFault | null): SegmentReport => ({
  is: "read",
  leaves: rows.hashes.subarray(0, rows.count * hashBytes),
  firstLoggedAt: rows.firstLoggedAt,
  lastLoggedAt: rows.lastLoggedAt,
  row: rows.fault,
  file,
});

/** The rows of leaves up to the first bad one, each made and hashed when it is asked for: they are many, and none is kept. */
class RowsInTurn implements Iterable<SegmentRow> {
  readonly #of: SegmentIdentity;
  readonly #leaves: readonly StoredLeaf[];
  readonly #sha256: Sha256;
  readonly hashes: Bytes;
  count = 0;
  fault: SegmentFault | null = null;
  firstLoggedAt: string | null = null;
  lastLoggedAt: string | null = null;

  constructor(of: SegmentIdentity, leaves: readonly StoredLeaf[], sha256: Sha256) {
    this.#of = of;
    this.#leaves = leaves;
    this.#sha256 = sha256;
    this.hashes = new Uint8Array(leaves.length * hashBytes);
  }

  *[Symbol.iterator](): Generator<SegmentRow, void> {
    for (let row = this.#next(); row !== null; row = this.#next()) yield row;
  }

  finish(): void {
    while (this.#next() !== null);
  }

  #next(): SegmentRow | null {
    const leaf = this.#leaves[this.count];
    if (leaf === undefined) return null;
    const seq = this.#of.range.from + this.count;
    const found = rowFrom(leaf, seq, this.#of.tenantId);
    if ("reason" in found) {
      this.fault = { row: seq, reason: `row ${seq}: ${found.reason}` };
      return null;
    }
    if (this.lastLoggedAt !== null && found.logged_at < this.lastLoggedAt) {
      this.fault = loggedBefore(seq);
      return null;
    }
    this.firstLoggedAt ??= found.logged_at;
    this.lastLoggedAt = found.logged_at;
    this.hashes.set(hashLeaf(this.#sha256, leaf.salt, leaf.bodyBytes), this.count * hashBytes);
    this.count += 1;
    return found;
  }
}

export const loggedBefore = (seq: number): SegmentFault => ({
  row: seq,
  reason: `row ${seq} was logged before the row ahead of it`,
});

/** What a segment has to say about this leaf, if it is the one of row `seq`. */
function rowFrom(
  leaf: LeafRow & Partial<StoredLeaf>,
  seq: number,
  tenantId: string,
): SegmentRow | { readonly reason: string } {
  if (leaf.salt.length !== saltBytes) return { reason: "the salt has not 16 bytes" };
  const columns = columnsByPattern(leaf.body) ?? columnsByParsing(leaf.body);
  if ("reason" in columns) return columns;
  if (columns.seq !== seq) return { reason: `the leaf is that of row ${columns.seq}` };
  if (columns.tenant_id !== tenantId) return { reason: "the leaf is another tenant's" };
  return Object.assign(columns, { salt: leaf.salt, body: leaf.body, bodyBytes: leaf.bodyBytes });
}

function columnsByParsing(body: string): LeafColumns | { readonly reason: string } {
  const parsed = parseLeaf(body);
  if (!parsed.ok) return { reason: parsed.reason };
  return { ...eventColumns(parsed.event, parsed.attrs), source_seq: parsed.event.source_seq };
}

/** The first column, but salt and body, in which the rows differ. */
const otherColumn = (of: SegmentIdentity, row: SegmentRow, expected: SegmentRow): string | null =>
  columnsOf(of.version).find(({ name, type }) => type !== "BYTE_ARRAY" && row[name] !== expected[name])?.name ?? null;

/** Of a signed segment whose leaves are right: the first column that is not what its leaf says, else `fault`. */
async function fileFault(
  of: SegmentIdentity,
  bytes: Bytes,
  fault: string,
  leaves: readonly StoredLeaf[],
  gzip: Gzip,
): Promise<SegmentFault> {
  const read = await readSegment(of, bytes, gzip);
  if (!read.ok) return { row: null, reason: read.reason };
  for (const [at, leaf] of leaves.entries()) {
    const expected = rowFrom(leaf, leaf.seq, of.tenantId);
    const [seq, row] = [leaf.seq, read.rows[at]]; // the file's own seq may be the lie
    const name = row === undefined || "reason" in expected ? null : otherColumn(of, row, expected);
    if (name !== null) return { row: seq, reason: `row ${seq}: the column ${name} is not what the leaf says` };
  }
  return { row: null, reason: `the segment is not what its rows make: ${fault}` };
}

function anotherSegment(rows: readonly SegmentRow[], of: SegmentIdentity, sha256: Sha256): SegmentReport {
  const bad = rows.findIndex((row, at) => {
    const found = rowFrom({ seq: row.seq, salt: row.salt, body: row.body }, of.range.from + at, of.tenantId);
    return "reason" in found || otherColumn(of, row, found) !== null;
  });
  const leaves = rows.map(({ salt, body }) => hashLeaf(sha256, salt, body));
  return { is: "another", row: bad < 0 ? null : of.range.from + bad, leaves: concat(...leaves) };
}

/**
 * `gzip`, for one file that is gone through twice: the pages of salts and bodies are inflated once. A page is known by all of
 * its bytes, not by where it lies.
 */
function remembering(gzip: Gzip): Gzip {
  const known = new Map<string, { readonly stored: Uint8Array; readonly page: Uint8Array }>();
  return {
    deflate: (bytes) => gzip.deflate(bytes),
    inflate(bytes, byteCount) {
      const trailer = bytes.subarray(-8).join();
      const before = known.get(trailer);
      if (before !== undefined && before.page.length === byteCount && bytesEqual(before.stored, bytes))
        return before.page;
      const page = gzip.inflate(bytes, byteCount);
      known.set(trailer, { stored: bytes, page });
      return page;
    },
  };
}
