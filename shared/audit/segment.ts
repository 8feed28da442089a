// Segments: up to 10,000 rows of one tenant's log as a Parquet file. The log writes them once; verifiers, DuckDB and
// whoever else read them. Row i is leaf from+i; `salt` and `body` are the leaf, every other column is a function of
// `body` (`eventColumns`), there for tools that cannot parse it. The same rows give the same bytes.

import { parquetMetadata, parquetRead, type SchemaElement } from "hyparquet";
import { parquetWriteBuffer } from "hyparquet-writer";
import { toBytes, type Bytes } from "../contract/bytes.ts";
import { canonicalJson, eventColumns, type EventColumns, type LoggedEvent } from "../contract/events.ts";
import type { Range } from "./layout.ts";
import { pageFault } from "./segment-pages.ts";
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
  /** Throws where the result would not be `byteCount` bytes. */
  inflate(bytes: Uint8Array, byteCount: number): Uint8Array;
}

type ColumnType = "UUID" | "INT64" | "TIMESTAMP" | "STRING" | "BYTE_ARRAY";
interface Column {
  readonly name: keyof SegmentRow;
  readonly type: ColumnType;
  readonly nullable?: true;
  /** Split-block bloom filter, for look-ups of one id among many; words that repeat have a dictionary. They do not prune UUIDs. */
  readonly bloom?: true;
}

export interface SegmentRow extends EventColumns {
  readonly salt: Uint8Array;
  readonly body: string;
}

export const segmentColumns: readonly Column[] = [
  { name: "tenant_id", type: "UUID" },
  { name: "seq", type: "INT64" },
  { name: "logged_at", type: "TIMESTAMP" },
  { name: "occurred_at", type: "TIMESTAMP" },
  { name: "event_id", type: "STRING", bloom: true },
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
  { name: "attrs", type: "STRING" },
  { name: "salt", type: "BYTE_ARRAY" },
  { name: "body", type: "STRING" },
];

function cell(type: ColumnType, value: SegmentRow[keyof SegmentRow]): unknown {
  if (value === null) return null;
  if (type === "INT64") return BigInt(value as number);
  return type === "TIMESTAMP" ? new Date(value as string) : value;
}

export const rowOf = (leaf: LeafRow): SegmentRow => ({
  ...eventColumns(JSON.parse(leaf.body) as LoggedEvent),
  salt: leaf.salt,
  body: leaf.body,
});

/** `leaves`: exactly the rows of `range`, in order, as the log holds them. */
export function writeSegment(tenantId: string, range: Range, leaves: readonly LeafRow[], gzip: Gzip): Bytes {
  if (leaves.length !== range.to - range.from || leaves.length > segmentRowsMax) {
    throw new RangeError(`a segment of ${leaves.length} rows cannot be ${range.from} to ${range.to}`);
  }
  const rows = leaves.map(rowOf);
  const buffer = parquetWriteBuffer({
    schema: [
      { name: "root", num_children: segmentColumns.length },
      ...segmentColumns.map((column) => elementOf(column)),
    ],
    columnData: segmentColumns.map(({ name, type, bloom }) => ({
      name,
      data: rows.map((row) => cell(type, row[name])),
      bloomFilter: bloom === true,
      columnIndex: type !== "BYTE_ARRAY" && name !== "body" && name !== "attrs",
      statistics: name !== "salt" && name !== "body" && name !== "attrs",
    })),
    codec: "GZIP",
    compressors: { GZIP: (bytes) => gzip.deflate(bytes) },
    rowGroupSize: rowGroupRows,
    createdBy: "maestro-conductor",
    kvMetadata: Object.entries(segmentMetadata(tenantId, range)).map(([key, value]) => ({ key, value })),
  });
  return new Uint8Array(buffer);
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

export type ReadSegment = { ok: true; rows: SegmentRow[] } | { ok: false; reason: string };

/**
 * Reads a segment back. Refuses another schema, other metadata than tenant and range call for, and values outside of
 * what a column may hold; whether the rows are the log's is the verifier's to find out.
 */
export async function readSegment(bytes: Bytes, tenantId: string, range: Range, gzip: Gzip): Promise<ReadSegment> {
  try {
    return await readRows(bytes, tenantId, range, gzip);
  } catch (error) {
    return {
      ok: false,
      reason: `the segment is not readable Parquet: ${error instanceof Error ? error.message : "?"}`,
    };
  }
}

async function readRows(bytes: Bytes, tenantId: string, range: Range, gzip: Gzip): Promise<ReadSegment> {
  const file = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
  const metadata = parquetMetadata(file);
  const rowCount = range.to - range.from;
  if (metadata.num_rows !== BigInt(rowCount)) {
    return { ok: false, reason: `the segment has ${metadata.num_rows} rows, not ${rowCount}` };
  }
  if (rowCount > segmentRowsMax) return { ok: false, reason: `a segment has at most ${segmentRowsMax} rows` };
  const [, ...found] = metadata.schema;
  const expected = segmentColumns.map((column) => elementOf(column));
  if (
    found.map((element) => schemaText(element)).join("\n") !== expected.map((element) => schemaText(element)).join("\n")
  ) {
    return { ok: false, reason: "the segment has another schema" };
  }
  const said = new Map(metadata.key_value_metadata?.map(({ key, value }) => [key, value]));
  for (const [key, value] of Object.entries(segmentMetadata(tenantId, range))) {
    if (said.get(key) !== value) return { ok: false, reason: `the segment's metadata has another ${key}` };
  }
  const fault = pageFault(file, metadata, rowCount, rowGroupRows);
  if (fault !== null) return { ok: false, reason: `the segment's counts do not add up: ${fault}` };
  const rows: Record<string, unknown>[] = Array.from({ length: rowCount }, () => ({}));
  await parquetRead({
    file,
    metadata,
    utf8: false,
    compressors: {
      GZIP: (input, byteCount) => gzip.inflate(input, byteCount),
    },
    onChunk: ({ columnName, columnData, rowStart }) => {
      for (let at = 0; at < columnData.length; at += 1) {
        const row = rows[rowStart + at];
        if (row !== undefined) row[columnName] = columnData[at];
      }
    },
  });
  const checked: SegmentRow[] = [];
  for (const [at, row] of rows.entries()) {
    for (const { name, type, nullable } of segmentColumns) {
      const value = plain(type, row[name] ?? null);
      if (value === undefined || (value === null && nullable !== true)) {
        return { ok: false, reason: `row ${range.from + at} has no usable ${name}` };
      }
      row[name] = value;
    }
    checked.push(row as unknown as SegmentRow);
  }
  return { ok: true, rows: checked };
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
