// The formats of `maestro pql --format`: the API's own writers, on answers that are joined from their pages. A page of a
// stream is written as it comes; Parquet and JSON are one value, and wait for the last.

import type { PqlAnswer } from "../../shared/contract/http-pql.ts";
import { tableOf } from "../../shared/pql/answer-table.ts";
import { csvOf, inFormat, ndjsonOf } from "../../shared/pql/formats.ts";
import type { Host } from "../host.ts";
import { printableLines } from "../output.ts";

export const formatNames = ["table", "json", "ndjson", "csv", "parquet"] as const;
export type FormatName = (typeof formatNames)[number];

/** Formats whose pages may follow each other in one file. */
export const isStream = (format: FormatName): format is "ndjson" | "csv" => format === "ndjson" || format === "csv";

/** A page as a part of a stream; the header of CSV is on the first page alone. */
export function streamPart(format: "ndjson" | "csv", page: PqlAnswer, isFirst: boolean): string {
  const table = tableOf(page);
  if (format === "ndjson") return ndjsonOf(table);
  const text = csvOf(table);
  return isFirst ? text : text.slice(text.indexOf("\r\n") + 2);
}

/** A text for stdout: byte for byte in a pipe, without what would steer it on a terminal. */
export const shown = (host: Host, text: string): string => (host.stdoutIsTerminal ? printableLines(text) : text);

export const parquetBytes = (answer: PqlAnswer): Uint8Array => {
  const { body } = inFormat("application/vnd.apache.parquet", answer);
  if (!(body instanceof Uint8Array)) throw new TypeError("Parquet is bytes");
  return body;
};
