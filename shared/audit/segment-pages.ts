// Bounds for reading a segment that nobody vouches for: hyparquet believes the counts in a file, and a forged one makes
// it loop for minutes. Every count is checked here against the range's rows, and every column's place, before any page is
// read. Called by shared/audit/segment.ts.

import type { ColumnMetaData, FileMetaData } from "hyparquet";
import { parquetHeader } from "hyparquet/src/column.js";
import type { Range } from "./layout.ts";
import { columnsOf, newestSchema } from "./segment-schema.ts";

/** All pages of a segment, inflated. Its bodies have 8 Mi characters, of four bytes at most; `attrs` repeats most of them. */
const inflatedBytesMax = 96 * 1024 * 1024;
/** What the writer uses; others have counts of their own inside of their pages. */
const pageTypes = ["DATA_PAGE_V2", "DICTIONARY_PAGE"];
const encodings = ["PLAIN", "RLE_DICTIONARY"];

/** A dictionary would give each row the same long value, to be hashed once a row. */
const plainColumns: ReadonlySet<string | undefined> = new Set(
  columnsOf(newestSchema)
    .filter(({ unique }) => unique === true)
    .map(({ name }) => name),
);

/** Behind the magic "PAR1". */
const firstPage = 4;

const isCount = (value: unknown, most: number): boolean =>
  typeof value === "number" && Number.isSafeInteger(value) && value >= 0 && value <= most;

/** Null where all counts and places add up; else what does not. Throws where a page header cannot be read. */
export function pageFault(
  file: ArrayBuffer,
  metadata: FileMetaData,
  range: Range,
  rowGroupRows: number,
): string | null {
  const fault = groupFault(file, metadata, range.to - range.from, rowGroupRows);
  return fault === null ? null : `the segment's counts do not add up: ${fault}`;
}

function groupFault(file: ArrayBuffer, metadata: FileMetaData, rowCount: number, rowGroupRows: number): string | null {
  let next = firstPage;
  let inflatable = inflatedBytesMax;
  if (metadata.row_groups.length !== Math.ceil(rowCount / rowGroupRows)) return "row groups";
  for (const [at, group] of metadata.row_groups.entries()) {
    const groupRows = Math.min(rowGroupRows, rowCount - at * rowGroupRows);
    if (group.num_rows !== BigInt(groupRows)) return "rows of a row group";
    if (group.columns.length !== metadata.schema.length - 1) return "columns of a row group";
    for (const [column, { meta_data: chunk }] of group.columns.entries()) {
      if (chunk?.path_in_schema.join(".") !== metadata.schema[column + 1]?.name) return "order of the columns";
      if (chunk?.num_values !== BigInt(groupRows)) return "values of a column";
      const start = Number(chunk.dictionary_page_offset ?? chunk.data_page_offset);
      const length = Number(chunk.total_compressed_size);
      // Columns follow each other: none overlaps another, and nothing lies between two.
      if (start !== next || !isCount(length, file.byteLength - start)) return "place of a column";
      next += length;
      const read = columnPages(new DataView(file, start, length), chunk, groupRows, inflatable);
      if (typeof read === "string") return read;
      inflatable -= read.inflated;
    }
  }
  return null;
}

/** What the pages of a column inflate to, at most `inflatable`; else what does not add up. */
function columnPages(
  view: DataView,
  chunk: ColumnMetaData,
  groupRows: number,
  inflatable: number,
): { readonly inflated: number } | string {
  const reader = { view, offset: 0 };
  const isPlain = plainColumns.has(chunk.path_in_schema[0]);
  const dataStart = Number(chunk.data_page_offset) - view.byteOffset;
  let rows = 0;
  let inflated = 0;
  while (reader.offset < view.byteLength) {
    const pageStart = reader.offset;
    const header = parquetHeader(reader);
    if (!pageTypes.includes(header.type) || (isPlain && header.type === "DICTIONARY_PAGE")) return "kind of a page";
    if (!isCount(header.compressed_page_size, view.byteLength - reader.offset)) return "size of a page";
    if (!isCount(header.uncompressed_page_size, inflatable - inflated)) return "inflated size of a page";
    inflated += header.uncompressed_page_size;
    reader.offset += header.compressed_page_size;
    const { data_page_header_v2: data, dictionary_page_header: dictionary } = header;
    if (header.type === "DICTIONARY_PAGE") {
      if (chunk.dictionary_page_offset === undefined || pageStart !== 0) return "place of a dictionary";
      if (!isCount(dictionary?.num_values, groupRows)) return "values of a dictionary";
      continue;
    }
    if (rows === 0 && pageStart !== dataStart) return "place of the first page";
    if (data === undefined || !encodings.includes(data.encoding)) return "encoding of a page";
    if (data.num_rows !== data.num_values || !isCount(data.num_values, groupRows - rows)) return "values of a page";
    if (!isCount(data.num_nulls, data.num_values)) return "nulls of a page";
    if (data.repetition_levels_byte_length !== 0) return "levels of a page";
    if (!isCount(data.definition_levels_byte_length, header.compressed_page_size)) return "levels of a page";
    rows += data.num_values;
  }
  return rows === groupRows ? { inflated } : "rows of a column";
}

/** The compressed part of each page, in the order in which they lie from the file's start. Throws where there is none. */
export function* storedPages(bytes: Uint8Array): Generator<Uint8Array, undefined> {
  const reader = { view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), offset: firstPage };
  for (;;) {
    const header = parquetHeader(reader);
    const { definition_levels_byte_length: definitions = 0, repetition_levels_byte_length: repetitions = 0 } =
      header.data_page_header_v2 ?? {};
    const end = reader.offset + header.compressed_page_size;
    yield bytes.subarray(reader.offset + definitions + repetitions, end);
    reader.offset = end;
  }
}
