// An answer's table as a Parquet file: typed columns, what the answer says of itself in the file's metadata. Called by
// formats.ts.

import type { SchemaElement } from "hyparquet";
import { parquetWriteBuffer } from "hyparquet-writer";
import type { AnswerTable, Cell, CellType } from "./answer-table.ts";

/** As the log's segments have them: instants are UTC milliseconds, whole numbers BIGINT. Any cell may be null. */
const elements: Readonly<Record<CellType, Omit<SchemaElement, "name">>> = {
  text: { type: "BYTE_ARRAY", converted_type: "UTF8" },
  integer: { type: "INT64" },
  boolean: { type: "BOOLEAN" },
  timestamp: { type: "INT64", logical_type: { type: "TIMESTAMP", isAdjustedToUTC: true, unit: "MILLIS" } },
};

/** `tellings` become key-value metadata under `pql.` names. Snappy, which every reader has. */
export const parquetOf = (
  { columns, rows }: AnswerTable,
  tellings: readonly (readonly [name: string, text: string])[],
): Uint8Array =>
  new Uint8Array(
    parquetWriteBuffer({
      schema: [
        { name: "root", num_children: columns.length },
        ...columns.map(({ name, type }) => ({ name, repetition_type: "OPTIONAL" as const, ...elements[type] })),
      ],
      columnData: columns.map(({ name, type }, at) => ({
        name,
        data: rows.map((row) => stored(type, row[at] ?? null)),
      })),
      kvMetadata: tellings.map(([name, text]) => ({ key: `pql.${name}`, value: text })),
      createdBy: "maestro-conductor",
    }),
  );

function stored(type: CellType, cell: Cell): unknown {
  if (cell === null || type === "text" || type === "boolean") return cell;
  return BigInt(type === "timestamp" ? Date.parse(String(cell)) : Number(cell));
}
