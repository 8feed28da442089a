// Segments: up to 10,000 rows of one tenant's log as a Parquet file. The log writes them once; verifiers, DuckDB and
// whoever else read them. Row i is leaf from+i; `salt` and `body` are the leaf, every other column is a function of
// `body` (`eventColumns`), there for tools that cannot parse it. The same rows give the same bytes.

import { parquetMetadata, parquetRead, type FileMetaData, type SchemaElement } from "hyparquet";
import { ByteWriter, ParquetWriter } from "hyparquet-writer";
import { BloomBuilder } from "hyparquet-writer/src/bloom.js";
import { hexBytes, toBytes, type Bytes } from "../contract/bytes.ts";
import { canonicalJson, type EventColumns, type LoggedEvent } from "../contract/events.ts";
import type { Range } from "./layout.ts";
import { leafColumns } from "./leaf.ts";
import { pageFault, storedPages } from "./segment-pages.ts";
import type { LeafRow } from "./service.ts";

/** One call that writes 10,000 rows runs in 32 MB; 100,000 need 256 MB, twice what a Durable Object has. */
export const segmentRowsMax = 10_000;
/** Bodies of one segment, in UTF-8 bytes, for the same reason; a single event is at most 48 KiB. */
export const segmentBodyBytesMax = 8 * 1024 * 1024;
const rowGroupRows = 2_500;

export const segmentFormat = "1";

/** GZIP, which every Parquet reader has; node:zlib where this runs. */
export interface Gzip {
  deflate(bytes: Uint8Array): Uint8Array;
  /** Throws where `bytes` are anything but one gzip member, without extra fields or a rest, of `byteCount` bytes. */
  inflate(bytes: Uint8Array, byteCount: number): Uint8Array;
}

type ColumnType = "UUID" | "INT64" | "TIMESTAMP" | "STRING" | "BYTE_ARRAY";
interface Column {
  readonly name: keyof SegmentRow;
  readonly type: ColumnType;
  readonly nullable?: true;
  /** Split-block bloom filter, for look-ups of one id among many; words that repeat have a dictionary. They do not prune UUIDs. */
  readonly bloom?: true;
  /** No value comes twice, so a dictionary is not even tried. */
  readonly unique?: true;
  /** Too long to be compared: no statistics and no index. */
  readonly opaque?: true;
}

export interface SegmentRow extends EventColumns {
  readonly salt: Uint8Array;
  readonly body: string;
}

export const segmentColumns: readonly Column[] = [
  { name: "tenant_id", type: "UUID" },
  { name: "seq", type: "INT64", unique: true },
  { name: "logged_at", type: "TIMESTAMP" },
  { name: "occurred_at", type: "TIMESTAMP" },
  { name: "event_id", type: "STRING", bloom: true, unique: true },
  { name: "type", type: "STRING" },
  { name: "source", type: "STRING" },
  { name: "principal", type: "STRING", nullable: true, bloom: true },
  { name: "execution_id", type: "STRING", nullable: true, bloom: true },
  { name: "package", type: "STRING", nullable: true },
  { name: "version", type: "STRING", nullable: true },
  { name: "channel", type: "STRING", nullable: true },
  { name: "outcome", type: "STRING", nullable: true },
  { name: "rule", type: "STRING", nullable: true },
  { name: "action", type: "STRING", nullable: true },
  { name: "units", type: "INT64", nullable: true },
  { name: "duration_ms", type: "INT64", nullable: true },
  { name: "attrs", type: "STRING", opaque: true },
  { name: "salt", type: "BYTE_ARRAY", unique: true, opaque: true },
  { name: "body", type: "STRING", unique: true, opaque: true },
];

const columnsOf = (body: string): EventColumns => leafColumns(body, JSON.parse(body) as LoggedEvent);

export const rowOf = (leaf: LeafRow): SegmentRow => ({
  ...columnsOf(leaf.body),
  salt: leaf.salt,
  body: leaf.body,
});

/** `leaves`: exactly the rows of `range`, in order, as the log holds them. */
export function writeSegment(tenantId: string, range: Range, leaves: readonly LeafRow[], gzip: Gzip): Bytes {
  if (leaves.length !== range.to - range.from || leaves.length > segmentRowsMax) {
    throw new RangeError(`a segment of ${leaves.length} rows cannot be ${range.from} to ${range.to}`);
  }
  return written(tenantId, range, leaves.map(rowOf), (page) => gzip.deflate(page));
}

/**
 * Null where `bytes` are what `writeSegment` makes of `rows`, whichever zlib compressed the pages; else what they are not.
 * Nothing that a reader may find or skip rows by (statistics, indexes, bloom filters, offsets) is left to be believed.
 */
export function segmentFault(
  bytes: Bytes,
  tenantId: string,
  range: Range,
  rows: readonly SegmentRow[],
  gzip: Gzip,
): string | null {
  try {
    const pages = storedPages(bytes);
    const again = written(tenantId, range, rows, (page) => {
      const stored = pages.next().value;
      if (stored === undefined || !isSame(gzip.inflate(stored, page.length), page)) {
        throw new RangeError("it holds something else");
      }
      return stored;
    });
    return isSame(again, bytes) ? null : "its footer, indexes or filters are not those of its rows";
  } catch (error) {
    return `a page is not that of its rows: ${error instanceof Error ? error.message : "?"}`;
  }
}

function written(
  tenantId: string,
  range: Range,
  rows: readonly SegmentRow[],
  compress: (page: Uint8Array) => Uint8Array,
): Bytes {
  const writer = new ByteWriter();
  const parquet = new ParquetWriter({
    writer,
    schema: [
      { name: "root", num_children: segmentColumns.length },
      ...segmentColumns.map((column) => elementOf(column)),
    ],
    codec: "GZIP",
    compressors: { GZIP: compress },
    createdBy: "maestro-conductor",
    kvMetadata: Object.entries(segmentMetadata(tenantId, range)).map(([key, value]) => ({ key, value })),
  });
  const columnData = segmentColumns.map(({ name, type, unique, opaque }) => ({
    name,
    data: cells(type, name, rows),
    ...(unique === true ? { encoding: "PLAIN" as const } : {}),
    columnIndex: opaque !== true,
    statistics: opaque !== true,
  }));
  void parquet.write({ columnData, rowGroupSize: rowGroupRows });
  addBlooms(parquet, rows);
  void parquet.finish();
  return new Uint8Array(writer.getBuffer());
}

/** A plain loop: megabytes are compared here, and `bytesEqual` calls a function for each byte. */
function isSame(left: Uint8Array, right: Uint8Array): boolean {
  if (left.length !== right.length) return false;
  for (let at = 0; at < left.length; at += 1) if (left[at] !== right[at]) return false;
  return true;
}

/** The writer would hash each value of a group, however often it comes; that was half of the time of a segment. */
function addBlooms(parquet: ParquetWriter, rows: readonly SegmentRow[]): void {
  for (const [at, pending] of parquet.pendingIndexes.entries()) {
    const column = segmentColumns[at % segmentColumns.length];
    if (column?.bloom !== true) continue;
    const from = Math.floor(at / segmentColumns.length) * rowGroupRows;
    const builder = new BloomBuilder(elementOf(column));
    for (const value of new Set(rows.slice(from, from + rowGroupRows).map((row) => row[column.name]))) {
      builder.insert(value);
    }
    const filter = builder.finalize();
    if (filter !== undefined) pending.bloomFilter = filter;
  }
}

function cells(type: ColumnType, name: keyof SegmentRow, rows: readonly SegmentRow[]): unknown[] {
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

const segmentMetadata = (tenantId: string, range: Range): Record<string, string> => ({
  "maestro.format": segmentFormat,
  "maestro.tenant_id": tenantId,
  "maestro.from": String(range.from),
  "maestro.to": String(range.to),
});

/** Times are instants, in milliseconds and UTC: a tool shows them as such, whatever its own zone. */
const elements: Record<ColumnType, Omit<SchemaElement, "name">> = {
  UUID: { type: "FIXED_LEN_BYTE_ARRAY", type_length: 16, logical_type: { type: "UUID" } },
  INT64: { type: "INT64" },
  TIMESTAMP: { type: "INT64", logical_type: { type: "TIMESTAMP", isAdjustedToUTC: true, unit: "MILLIS" } },
  STRING: { type: "BYTE_ARRAY", converted_type: "UTF8" },
  BYTE_ARRAY: { type: "BYTE_ARRAY" },
};

const elementOf = (column: Column): SchemaElement => ({
  name: column.name,
  repetition_type: column.nullable === true ? "OPTIONAL" : "REQUIRED",
  ...elements[column.type],
});

const schemaText = (element: SchemaElement): string => {
  const { name, type, type_length, repetition_type, converted_type, logical_type, num_children } = element;
  return canonicalJson(
    JSON.parse(
      JSON.stringify({ name, type, type_length, repetition_type, converted_type, logical_type, num_children }),
    ),
  );
};

type Refused = { readonly ok: false; readonly reason: string };
export type ReadSegment = { readonly ok: true; readonly rows: SegmentRow[] } | Refused;
export type ReadLeaves = { readonly ok: true; readonly leaves: LeafRow[] } | Refused;

/**
 * Reads a segment back. Refuses another schema, other metadata than tenant and range call for, and values outside of
 * what a column may hold; whether the rows are the log's is the verifier's to find out.
 */
export async function readSegment(bytes: Bytes, tenantId: string, range: Range, gzip: Gzip): Promise<ReadSegment> {
  const read = await readColumns(bytes, tenantId, range, segmentColumns, gzip);
  return read.ok ? { ok: true, rows: read.rows as unknown as SegmentRow[] } : read;
}

/** As `readSegment`, the leaves alone: every other column is a function of them. */
export async function readLeaves(bytes: Bytes, tenantId: string, range: Range, gzip: Gzip): Promise<ReadLeaves> {
  const read = await readColumns(bytes, tenantId, range, saltAndBody, gzip);
  if (!read.ok) return read;
  const rows = read.rows as unknown as Pick<SegmentRow, "salt" | "body">[];
  return { ok: true, leaves: rows.map(({ salt, body }, at) => ({ seq: range.from + at, salt, body })) };
}

const saltAndBody = segmentColumns.filter(({ name }) => name === "salt" || name === "body");

type ReadColumns = { readonly ok: true; readonly rows: Record<string, unknown>[] } | Refused;
const refused = (reason: string): Refused => ({ ok: false, reason });

async function readColumns(
  bytes: Bytes,
  tenantId: string,
  range: Range,
  columns: readonly Column[],
  gzip: Gzip,
): Promise<ReadColumns> {
  try {
    const file = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
    const metadata = parquetMetadata(file);
    const fault = metadataFault(metadata, tenantId, range) ?? pageFault(file, metadata, range, rowGroupRows);
    if (fault !== null) return refused(fault);
    const rows: Record<string, unknown>[] = Array.from({ length: range.to - range.from }, () => ({}));
    await parquetRead({
      file,
      metadata,
      columns: columns.map(({ name }) => name),
      utf8: false,
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

function metadataFault(metadata: FileMetaData, tenantId: string, range: Range): string | null {
  const rowCount = range.to - range.from;
  if (metadata.num_rows !== BigInt(rowCount)) return `the segment has ${metadata.num_rows} rows, not ${rowCount}`;
  if (rowCount > segmentRowsMax) return `a segment has at most ${segmentRowsMax} rows`;
  const [, ...found] = metadata.schema;
  const expected = segmentColumns.map((column) => elementOf(column));
  if (
    found.map((element) => schemaText(element)).join("\n") !== expected.map((element) => schemaText(element)).join("\n")
  ) {
    return "the segment has another schema";
  }
  const said = new Map(metadata.key_value_metadata?.map(({ key, value }) => [key, value]));
  for (const [key, value] of Object.entries(segmentMetadata(tenantId, range))) {
    if (said.get(key) !== value) return `the segment's metadata has another ${key}`;
  }
  return null;
}

/** The value as `EventColumns` has it; undefined where it cannot be one. */
function plain(type: ColumnType, value: unknown): string | number | Bytes | null | undefined {
  if (value === null) return null;
  if (type === "INT64") {
    const number = typeof value === "bigint" ? Number(value) : Number.NaN;
    return Number.isSafeInteger(number) ? number : undefined;
  }
  if (type === "TIMESTAMP") {
    return value instanceof Date && !Number.isNaN(value.getTime()) ? value.toISOString() : undefined;
  }
  if (type === "BYTE_ARRAY") return value instanceof Uint8Array ? toBytes(value) : undefined;
  return typeof value === "string" ? value : undefined;
}
