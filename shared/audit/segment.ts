// Segments: up to 10,000 rows of one tenant's log as a Parquet file. The log writes them once; verifiers, DuckDB and
// whoever else read them. Row i is leaf from+i; `salt` and `body` are the leaf, every other column is a function of
// `body` (`eventColumns`), there for tools that cannot parse it. The same rows give the same bytes.

import { parquetMetadata, parquetRead, type FileMetaData } from "hyparquet";
import { ByteWriter, ParquetWriter } from "hyparquet-writer";
import { BloomBuilder } from "hyparquet-writer/src/bloom.js";
import { bytesEqual, hexBytes, utf8Text, type Bytes } from "../contract/bytes.ts";
import type { LoggedEvent } from "../contract/events.ts";
import type { Range } from "./layout.ts";
import { leafColumns } from "./leaf.ts";
import { writeColumns, type Compress } from "./segment-columns.ts";
import { pageFault, storedPages } from "./segment-pages.ts";
import {
  columnsOf,
  elementOf,
  elementText,
  type Column,
  type ColumnType,
  type SegmentRow,
  type SegmentSchemaVersion,
} from "./segment-schema.ts";
import type { LeafRow } from "./service.ts";

/** One call that writes 10,000 rows runs in 32 MB; 100,000 need 256 MB, twice what a Durable Object has. */
export const segmentRowsMax = 10_000;
/** Bodies of one segment, in UTF-8 bytes, for the same reason; a single event is at most 48 KiB. */
export const segmentBodyBytesMax = 8 * 1024 * 1024;
const rowGroupRows = 2_500;

/** GZIP, which every Parquet reader has; node:zlib where this runs. */
export interface Gzip {
  deflate(bytes: Uint8Array): Uint8Array;
  /** Throws where `bytes` are anything but one gzip member, without extra fields or a rest, of `byteCount` bytes. */
  inflate(bytes: Uint8Array, byteCount: number): Uint8Array;
}

/** Which segment: its name, and the columns that it has. */
export interface SegmentIdentity {
  readonly tenantId: string;
  readonly range: Range;
  readonly version: SegmentSchemaVersion;
}

/** The row of a leaf that was checked, or is the log's own. */
export function rowOf(leaf: LeafRow): SegmentRow {
  const event = JSON.parse(leaf.body) as LoggedEvent;
  return { ...leafColumns(leaf.body, event), salt: leaf.salt, body: leaf.body, source_seq: event.source_seq };
}

/** `leaves`: exactly the rows of `range`, in order, as the log holds them. */
export function writeSegment(of: SegmentIdentity, leaves: readonly LeafRow[], gzip: Gzip): Bytes {
  const { range } = of;
  if (leaves.length !== range.to - range.from || leaves.length > segmentRowsMax) {
    throw new RangeError(`a segment of ${leaves.length} rows cannot be ${range.from} to ${range.to}`);
  }
  return written(of, leaves.map(rowOf), (page) => gzip.deflate(page));
}

/**
 * Null where `bytes` are what `writeSegment` makes of `rows`, whichever zlib compressed the pages; else what they are not.
 * Nothing that a reader may find or skip rows by (statistics, indexes, bloom filters, offsets) is left to be believed.
 */
export function segmentFault(of: SegmentIdentity, bytes: Bytes, rows: Iterable<SegmentRow>, gzip: Gzip): string | null {
  try {
    const again = written(of, rows, comparing(bytes, gzip));
    return bytesEqual(again, bytes) ? null : "its footer, indexes or filters are not those of its rows";
  } catch (error) {
    return `a page is not that of its rows: ${error instanceof Error ? error.message : "?"}`;
  }
}

/** As where `segmentFault` is null, for who reads millions: true only where that is null; false also where only that can tell. */
export function isSurelySegmentOf(of: SegmentIdentity, bytes: Bytes, rows: Iterable<SegmentRow>, gzip: Gzip): boolean {
  try {
    return bytesEqual(written(of, rows, comparing(bytes, gzip), writeColumns), bytes);
  } catch {
    return false; // a page that is another, or that cannot be laid out so quickly: `segmentFault` has the words for it
  }
}

/** Takes each page of `bytes` for what it has to hold, where it inflates to that; else throws RangeError. */
function comparing(bytes: Bytes, gzip: Gzip): Compress {
  const pages = storedPages(bytes);
  return (page) => {
    const stored = pages.next().value;
    if (stored === undefined || !bytesEqual(gzip.inflate(stored, page.length), page)) {
      throw new RangeError("it holds something else");
    }
    return stored;
  };
}

function* inGroups(rows: Iterable<SegmentRow>): Generator<readonly SegmentRow[], void> {
  let group: SegmentRow[] = [];
  for (const row of rows) {
    group.push(row);
    if (group.length < rowGroupRows) continue;
    yield group;
    group = [];
  }
  if (group.length > 0) yield group;
}

/** Asks for rows a group at a time, so that who makes them need not hold them all. */
function written(
  of: SegmentIdentity,
  rows: Iterable<SegmentRow>,
  compress: Compress,
  writeGroup: typeof writeColumns = writeByLibrary,
): Bytes {
  const columns = columnsOf(of.version);
  const writer = new ByteWriter();
  const parquet = new ParquetWriter({
    writer,
    schema: [{ name: "root", num_children: columns.length }, ...columns.map((column) => elementOf(column))],
    codec: "GZIP",
    compressors: { GZIP: compress },
    createdBy: "maestro-conductor",
    kvMetadata: Object.entries(segmentMetadata(of)).map(([key, value]) => ({ key, value })),
  });
  for (const group of inGroups(rows)) writeGroup(parquet, writer, columns, group, compress);
  void parquet.finish();
  return new Uint8Array(writer.getBuffer());
}

/** A row group. */
function writeByLibrary(
  parquet: ParquetWriter,
  _writer: ByteWriter,
  columns: readonly Column[],
  group: readonly SegmentRow[],
): void {
  const columnData = columns.map(({ name, type, unique, opaque }) => ({
    name,
    data: cells(type, name, group),
    ...(unique === true ? { encoding: "PLAIN" as const } : {}),
    columnIndex: opaque !== true,
    statistics: opaque !== true,
  }));
  void parquet.write({ columnData, rowGroupSize: rowGroupRows });
  addBlooms(parquet, columns, group);
}

/** Of the group that was written last. The writer would hash each value, however often it comes; that was half of the time of a segment. */
function addBlooms(parquet: ParquetWriter, columns: readonly Column[], group: readonly SegmentRow[]): void {
  for (const [at, pending] of parquet.pendingIndexes.slice(-columns.length).entries()) {
    const column = columns[at];
    if (column?.bloom !== true) continue;
    const builder = new BloomBuilder(elementOf(column));
    for (const value of new Set(group.map((row) => row[column.name]))) builder.insert(value);
    const filter = builder.finalize();
    if (filter !== undefined) pending.bloomFilter = filter;
  }
}

function cells(type: ColumnType, name: keyof SegmentRow, rows: readonly SegmentRow[]): unknown[] {
  if (name === "body") return rows.map(({ body, bodyBytes }) => bodyBytes ?? body);
  if (type === "STRING" || type === "BYTE_ARRAY") return rows.map((row) => row[name]);
  // The same value is converted once: all rows have one tenant, and many have one time.
  let last: unknown;
  let converted: unknown;
  return rows.map((row) => {
    const value = row[name];
    if (value === null) return null;
    if (value !== last) {
      last = value;
      if (type === "UUID") converted = hexBytes(String(value).replaceAll("-", ""));
      else converted = BigInt(type === "TIMESTAMP" ? Date.parse(String(value)) : (value as number));
    }
    return converted;
  });
}

const segmentMetadata = ({ tenantId, range, version }: SegmentIdentity): Record<string, string> => ({
  "maestro.format": String(version),
  "maestro.tenant_id": tenantId,
  "maestro.from": String(range.from),
  "maestro.to": String(range.to),
});

type Refused = { readonly ok: false; readonly reason: string };
export type ReadSegment = { readonly ok: true; readonly rows: SegmentRow[] } | Refused;
/** A leaf as it lies in a segment. */
export interface StoredLeaf extends LeafRow {
  /** `body` in UTF-8, as it was stored: so that it need not be made anew to be hashed and compared. */
  readonly bodyBytes: Uint8Array;
}
export type ReadLeaves = { readonly ok: true; readonly leaves: StoredLeaf[] } | Refused;

/**
 * Reads a segment back. Refuses another schema, other metadata than tenant and range call for, and values outside of
 * what a column may hold; whether the rows are the log's is the verifier's to find out.
 */
export async function readSegment(of: SegmentIdentity, bytes: Bytes, gzip: Gzip): Promise<ReadSegment> {
  const read = await readColumns(of, bytes, columnsOf(of.version), gzip);
  return read.ok ? { ok: true, rows: read.rows as unknown as SegmentRow[] } : read;
}

/** As `readSegment`, the leaves alone: every other column is a function of them. */
export async function readLeaves(of: SegmentIdentity, bytes: Bytes, gzip: Gzip): Promise<ReadLeaves> {
  const saltAndBody = columnsOf(of.version).filter(({ name }) => name === "salt" || name === "body");
  const read = await readColumns(of, bytes, saltAndBody, gzip, (stored) => stored);
  if (!read.ok) return read;
  const leaves: StoredLeaf[] = [];
  for (const [at, row] of read.rows.entries()) {
    const { salt, body: bodyBytes } = row as { salt: Uint8Array; body: Uint8Array };
    const seq = of.range.from + at;
    try {
      leaves.push({ seq, salt, body: utf8Text(bodyBytes), bodyBytes });
    } catch {
      return refused(`row ${seq} has a body that is not UTF-8`);
    }
  }
  return { ok: true, leaves };
}

type ReadColumns = { readonly ok: true; readonly rows: Record<string, unknown>[] } | Refused;
const refused = (reason: string): Refused => ({ ok: false, reason });

async function readColumns(
  of: SegmentIdentity,
  bytes: Bytes,
  columns: readonly Column[],
  gzip: Gzip,
  /** What becomes of a string's bytes; text unless told. */
  stringOf?: (stored: Uint8Array) => unknown,
): Promise<ReadColumns> {
  const { range } = of;
  try {
    const file = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
    const metadata = parquetMetadata(file);
    const fault = metadataFault(metadata, of) ?? pageFault(file, metadata, range, rowGroupRows);
    if (fault !== null) return refused(fault);
    const rows: Record<string, unknown>[] = Array.from({ length: range.to - range.from }, () => ({}));
    await parquetRead({
      file,
      metadata,
      columns: columns.map(({ name }) => name),
      utf8: false,
      ...(stringOf === undefined ? {} : { parsers: { stringFromBytes: stringOf } }),
      compressors: { GZIP: (input, byteCount) => gzip.inflate(input, byteCount) },
      onChunk: ({ columnName, columnData, rowStart }) => {
        for (let at = 0; at < columnData.length; at += 1) {
          const row = rows[rowStart + at];
          if (row !== undefined) row[columnName] = columnData[at];
        }
      },
    });
    for (const [at, row] of rows.entries()) {
      for (const { name, type, nullable } of columns) {
        const value = plain(type, row[name] ?? null);
        if (value === undefined || (value === null && nullable !== true)) {
          return refused(`row ${range.from + at} has no usable ${name}`);
        }
        row[name] = value;
      }
    }
    return { ok: true, rows };
  } catch (error) {
    return refused(`the segment is not readable Parquet: ${error instanceof Error ? error.message : "?"}`);
  }
}

function metadataFault(metadata: FileMetaData, of: SegmentIdentity): string | null {
  const rowCount = of.range.to - of.range.from;
  if (metadata.num_rows !== BigInt(rowCount)) return `the segment has ${metadata.num_rows} rows, not ${rowCount}`;
  if (rowCount > segmentRowsMax) return `a segment has at most ${segmentRowsMax} rows`;
  const [, ...found] = metadata.schema;
  const expected = columnsOf(of.version).map((column) => elementOf(column));
  if (
    found.map((element) => elementText(element)).join("\n") !==
    expected.map((element) => elementText(element)).join("\n")
  ) {
    return "the segment has another schema";
  }
  const said = new Map(metadata.key_value_metadata?.map(({ key, value }) => [key, value]));
  for (const [key, value] of Object.entries(segmentMetadata(of))) {
    if (said.get(key) !== value) return `the segment's metadata has another ${key}`;
  }
  return null;
}

/** The value as `EventColumns` has it; undefined where it cannot be one. */
function plain(type: ColumnType, value: unknown): string | number | Uint8Array | null | undefined {
  if (value === null) return null;
  if (type === "INT64") {
    const number = typeof value === "bigint" ? Number(value) : Number.NaN;
    return Number.isSafeInteger(number) ? number : undefined;
  }
  if (type === "TIMESTAMP") {
    return value instanceof Date && !Number.isNaN(value.getTime()) ? value.toISOString() : undefined;
  }
  if (type === "BYTE_ARRAY") return value instanceof Uint8Array ? value : undefined;
  return typeof value === "string" || value instanceof Uint8Array ? value : undefined;
}
