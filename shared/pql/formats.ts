// An answer in the format that was asked for: JSON, NDJSON, CSV or Parquet. Called by POST /api/pql with what the door
// found in `Accept`. In all but JSON the body is the answer's table, and what the answer says of itself goes in headers.

import type { PqlAnswer } from "../contract/http-pql.ts";
import { tableOf, tellingsOf, type AnswerTable, type Cell } from "./answer-table.ts";
import { parquetOf } from "./parquet.ts";

/** Media types, the first for whoever has no wish. */
export const pqlFormats = [
  "application/json",
  "application/x-ndjson",
  "text/csv",
  "application/vnd.apache.parquet",
] as const;
export type PqlFormat = (typeof pqlFormats)[number];

/** What the headers are called: `PQL-Complete-To` for `complete_to`. */
export const headerOf = (name: string): string =>
  `PQL-${name
    .split("_")
    .map((word) => word.slice(0, 1).toUpperCase() + word.slice(1))
    .join("-")}`;

export interface FormattedAnswer<Answer> {
  /** The answer itself for JSON. */
  readonly body: Answer | string | Uint8Array;
  readonly headers: Readonly<Record<string, string>>;
}

export function inFormat<Answer extends PqlAnswer>(format: PqlFormat, answer: Answer): FormattedAnswer<Answer> {
  if (format === "application/json") return { body: answer, headers: {} };
  const tellings = tellingsOf(answer);
  const told = Object.fromEntries(tellings.map(([name, text]) => [headerOf(name), text]));
  const table = tableOf(answer);
  if (format === "application/x-ndjson") {
    return { body: ndjsonOf(table), headers: { ...told, "content-type": format } };
  }
  if (format === "text/csv") {
    return { body: csvOf(table), headers: { ...told, "content-type": "text/csv; charset=utf-8; header=present" } };
  }
  return { body: parquetOf(table, tellings), headers: { ...told, "content-type": format } };
}

/** An object a line, with every column, each line ended by a line feed. */
export function ndjsonOf({ columns, rows }: AnswerTable): string {
  const names = columns.map(({ name }) => `${JSON.stringify(name)}:`);
  return rows.map((row) => `{${names.map((name, at) => name + JSON.stringify(row[at] ?? null)).join(",")}}\n`).join("");
}

/**
 * RFC 4180: a header, CRLF after every line, quotes where a cell needs them. Null is an empty cell, an empty text is `""`.
 * A text that a spreadsheet would run as a formula has an apostrophe before it, and so has one that begins with an
 * apostrophe: whoever takes one off has the text as it was.
 */
export const csvOf = ({ columns, rows }: AnswerTable): string =>
  [columns.map(({ name }) => name), ...rows].map((row) => `${row.map(csvCell).join(",")}\r\n`).join("");

// https://owasp.org/www-community/attacks/CSV_Injection, with the full-width forms that some spreadsheets take as well.
const formula = /^[=+\-@\t\r\n'＝＋－＠]/;

function csvCell(cell: Cell): string {
  if (cell === null) return "";
  if (typeof cell !== "string") return String(cell);
  const text = formula.test(cell) ? `'${cell}` : cell;
  return text === "" || /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
