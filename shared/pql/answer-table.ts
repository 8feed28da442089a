// An answer as one flat table with typed columns, and what the answer says of itself beside it. Pure; the writers of
// formats.ts and parquet.ts work from it.

import type { PqlAnswer } from "../contract/http-pql.ts";
import { columns as fields } from "./catalogue.ts";

export type CellType = "text" | "integer" | "boolean" | "timestamp";
/** A timestamp is ISO 8601 in UTC with milliseconds. */
export type Cell = string | number | boolean | null;

export interface TableColumn {
  readonly name: string;
  readonly type: CellType;
}

export interface AnswerTable {
  readonly columns: readonly TableColumn[];
  /** A cell a column, in order. */
  readonly rows: readonly (readonly Cell[])[];
}

/**
 * What a row of counts is of: a group of TOP; `other`, what the groups leave out; `all`, where there is no TOP. So a group
 * of that name, and the group of what has no value (`name` null), are told from what is left over.
 */
const countColumns: readonly TableColumn[] = [
  { name: "kind", type: "text" },
  { name: "bucket_start", type: "timestamp" },
  { name: "partial", type: "boolean" },
  { name: "name", type: "text" },
  { name: "count", type: "integer" },
];

/**
 * Rows are rows. Counts are in long form: a line for each bucket and group, `bucket_start` and `partial` null where there
 * are no buckets; the lines' counts add up to the answer's total.
 */
export function tableOf(answer: PqlAnswer): AnswerTable {
  if (answer.kind === "rows") {
    return {
      columns: answer.columns.map((name) => ({ name, type: typeOf(name) })),
      rows: answer.rows.map((row) => answer.columns.map((name) => row[name] ?? null)),
    };
  }
  const names = answer.groups.map(({ name }) => name);
  const left = answer.field === null ? "all" : "other";
  const lines = (start: string | null, partial: boolean | null, counts: readonly number[], other: number): Cell[][] => [
    ...counts.map((count, at): Cell[] => ["group", start, partial, names[at] ?? null, count]),
    [left, start, partial, null, other],
  ];
  const rows =
    answer.buckets === null
      ? lines(
          null,
          null,
          answer.groups.map(({ total }) => total),
          answer.other,
        )
      : answer.buckets.flatMap(({ start, partial, counts, other }) => lines(start, partial, counts, other));
  return { columns: countColumns, rows };
}

/** `attrs`, the attributes' text, is no field of its own. */
function typeOf(column: string): CellType {
  const kind = fields.get(column)?.kind ?? "text";
  return kind === "duration" ? "integer" : kind;
}

/** What the table has, or what follows from it. */
const inTable = new Set(["kind", "columns", "rows", "groups", "buckets", "other", "total"]);

/**
 * The other members of an answer, by name, as texts of visible ASCII: `covers` as `from/to` (ISO 8601), strings and numbers
 * as they are, anything else as JSON. What is null is left out.
 */
export function tellingsOf(answer: PqlAnswer): [name: string, text: string][] {
  return Object.entries(answer).flatMap(([name, value]: [string, unknown]) => {
    if (inTable.has(name) || value === null || value === undefined) return [];
    if (name === "covers") return [[name, `${answer.covers.from}/${answer.covers.to}`]];
    return [[name, ascii(typeof value === "string" ? value : JSON.stringify(value))]];
  });
}

/** In JSON's own spelling of what is no visible ASCII. */
const ascii = (text: string): string =>
  text.replaceAll(/[^\x20-\x7e]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
