// The columns of segments, by schema version. A version only ever adds columns at the end, which older segments do not
// have: so tools read old and new segments together, and a verifier reads each by the version that its manifest names.
// Segments are written with the newest version; docs/audit/FORMAT.md tells strangers of all.

import type { SchemaElement } from "hyparquet";
import { canonicalJson, type EventColumns } from "../contract/events.ts";

export interface SegmentRow extends EventColumns {
  readonly salt: Uint8Array;
  readonly body: string;
  /** `body` in UTF-8, from who has it and has seen that `body` is canonical: then `attrs` is a part of it. */
  readonly bodyBytes?: Uint8Array | undefined;
  /** Since version 2. */
  readonly source_seq: number | null;
}

export type ColumnType = "UUID" | "INT64" | "TIMESTAMP" | "STRING" | "BYTE_ARRAY";
export interface Column {
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

/**
 * `after`, if it may follow `before`. Throws TypeError where a column is gone, moved, renamed or retyped, or where a new
 * one could not be read as null from the segments before it.
 */
export function successor(before: readonly Column[], after: readonly Column[]): readonly Column[] {
  for (const [at, column] of before.entries()) {
    const next = after[at];
    if (next?.name !== column.name) throw new TypeError(`the column ${column.name} is gone or moved`);
    if (canonicalJson(next) !== canonicalJson(column)) throw new TypeError(`the column ${column.name} is another`);
  }
  const names = new Set<string>(before.map(({ name }) => name));
  for (const column of after.slice(before.length)) {
    if (names.has(column.name)) throw new TypeError(`the column ${column.name} is there twice`);
    if (column.nullable !== true) throw new TypeError(`the new column ${column.name} is not nullable`);
    names.add(column.name);
  }
  return after;
}

const first: readonly Column[] = [
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

/** With the counter of the event's source: a loss is a hole in it, which any tool can look for. */
const second = successor(first, [...first, { name: "source_seq", type: "INT64", nullable: true }]);

export const segmentSchemas = { 1: first, 2: second } as const;
export type SegmentSchemaVersion = keyof typeof segmentSchemas;
/** What is written. */
export const newestSchema: SegmentSchemaVersion = 2;

export const columnsOf = (version: SegmentSchemaVersion): readonly Column[] => segmentSchemas[version];

/** Times are instants, in milliseconds and UTC: a tool shows them as such, whatever its own zone. */
const elements: Record<ColumnType, Omit<SchemaElement, "name">> = {
  UUID: { type: "FIXED_LEN_BYTE_ARRAY", type_length: 16, logical_type: { type: "UUID" } },
  INT64: { type: "INT64" },
  TIMESTAMP: { type: "INT64", logical_type: { type: "TIMESTAMP", isAdjustedToUTC: true, unit: "MILLIS" } },
  STRING: { type: "BYTE_ARRAY", converted_type: "UTF8" },
  BYTE_ARRAY: { type: "BYTE_ARRAY" },
};

export const elementOf = (column: Column): SchemaElement => ({
  name: column.name,
  repetition_type: column.nullable === true ? "OPTIONAL" : "REQUIRED",
  ...elements[column.type],
});

/** Two elements are the same where their texts are. */
export const elementText = (element: SchemaElement): string => {
  const { name, type, type_length, repetition_type, converted_type, logical_type, num_children } = element;
  return canonicalJson(
    JSON.parse(
      JSON.stringify({ name, type, type_length, repetition_type, converted_type, logical_type, num_children }),
    ),
  );
};
