// The columns of a row group as hyparquet-writer lays them out, for the verifier, which lays out millions of rows to compare
// them: ASCII is written without an encoder, bytes that are there already are taken, values that repeat are converted once.
// What it does not know how to write as that writer would, it refuses; then segment.ts has that writer do it.

import type { ColumnChunk, SchemaElement } from "hyparquet";
import type { ByteWriter, ParquetWriter } from "hyparquet-writer";
import { ByteWriter as Writer } from "hyparquet-writer";
import { getPageBoundaries } from "hyparquet-writer/src/column.js";
import { writePageHeader } from "hyparquet-writer/src/datapage.js";
import { useDictionary } from "hyparquet-writer/src/dictionary.js";
import { writeRleBitPackedHybrid } from "hyparquet-writer/src/encoding.js";
import { hexBytes, utf8 } from "../contract/bytes.ts";
import { elementOf, type Column, type SegmentRow } from "./segment-schema.ts";
import { bloomOf } from "./xxhash.ts";

/** Thrown where the other writer has to write. */
class NotSure extends Error {}

/** What hyparquet-writer takes unless told. */
const pageBytesMax = 1024 * 1024;
const lengthBytes = 4;
const longBytes = 8;

export type Compress = (page: Uint8Array) => Uint8Array;
type Value = string | number | null;
type Pending = ParquetWriter["pendingIndexes"][number];

/** As `parquet.write` with one row group of all of `rows`, and the bloom filters. Throws NotSure, having written a part. */
export function writeColumns(
  parquet: ParquetWriter,
  writer: ByteWriter,
  columns: readonly Column[],
  rows: readonly SegmentRow[],
  compress: Compress,
): void {
  const groupStart = writer.offset;
  const chunks: ColumnChunk[] = [];
  let byteCount = 0n;
  for (const column of columns) {
    const pending = new ColumnWriter(writer, column, compress).write(rows);
    chunks.push(pending.chunk);
    parquet.pendingIndexes.push(pending);
    byteCount += pending.chunk.meta_data?.total_uncompressed_size ?? 0n;
  }
  parquet.num_rows += BigInt(rows.length);
  parquet.row_groups.push({
    columns: chunks,
    total_byte_size: byteCount,
    num_rows: BigInt(rows.length),
    total_compressed_size: BigInt(writer.offset - groupStart),
  });
}

/** Each by its own name, which takes half of the time of a name that is looked up. */
const cells: Readonly<
  Record<Exclude<Column["name"], "salt" | "body" | "bodyBytes" | "attrs">, (row: SegmentRow) => Value>
> = {
  tenant_id: (row) => row.tenant_id,
  seq: (row) => row.seq,
  logged_at: (row) => row.logged_at,
  occurred_at: (row) => row.occurred_at,
  event_id: (row) => row.event_id,
  type: (row) => row.type,
  source: (row) => row.source,
  principal: (row) => row.principal,
  execution_id: (row) => row.execution_id,
  package: (row) => row.package,
  version: (row) => row.version,
  channel: (row) => row.channel,
  outcome: (row) => row.outcome,
  rule: (row) => row.rule,
  action: (row) => row.action,
  units: (row) => row.units,
  duration_ms: (row) => row.duration_ms,
  source_seq: (row) => row.source_seq,
};

type Encoding = "PLAIN" | "RLE_DICTIONARY";

class ColumnWriter {
  readonly #writer: ByteWriter;
  readonly #column: Column;
  readonly #element: SchemaElement;
  readonly #compress: Compress;
  #uncompressed = 0;

  constructor(writer: ByteWriter, column: Column, compress: Compress) {
    this.#writer = writer;
    this.#column = column;
    this.#element = elementOf(column);
    this.#compress = compress;
  }

  write(rows: readonly SegmentRow[]): Pending {
    const { name, type } = this.#column;
    if (name === "body" || name === "bodyBytes")
      return this.#bytes(rows.map(({ body, bodyBytes }) => bodyBytes ?? utf8(body)));
    if (name === "salt") return this.#bytes(rows.map(({ salt }) => salt));
    if (name === "attrs") return this.#attrs(rows);
    const values = rows.map(cells[name]);
    if (type === "TIMESTAMP") return this.#values(times(values as string[]));
    // One tenant: so there is nothing to be compared, and the dictionary has one value.
    if (type === "UUID" && !values.every((value) => value === values[0])) throw new NotSure("two tenants");
    return this.#values(values);
  }

  /** Where all of the body is ASCII, the attributes are where the body has them, byte for character. */
  #attrs(rows: readonly SegmentRow[]): Pending {
    const texts = rows.map(({ attrs }) => attrs);
    if (useDictionary(texts, "BYTE_ARRAY", undefined, undefined, undefined, true).dictionary !== undefined)
      throw new NotSure("attributes that repeat");
    return this.#bytes(
      rows.map(({ attrs, body, bodyBytes }) => {
        // A character beyond ASCII has more bytes than UTF-16 units.
        return bodyBytes?.length === body.length ? bodyBytes.subarray(attrsAt, attrsAt + attrs.length) : utf8(attrs);
      }),
    );
  }

  /** Opaque and plain, in as many pages as it takes. */
  #bytes(values: readonly Uint8Array[]): Pending {
    const start = this.#writer.offset;
    const pages = getPageBoundaries(values as Uint8Array[], "BYTE_ARRAY", undefined, pageBytesMax);
    const locations = pages.map((page) => {
      const offset = this.#writer.offset;
      const some = values.slice(page.start, page.end);
      this.#dataPage("PLAIN", some.length, 0, new Uint8Array(0), plainBytes(some));
      return {
        offset: BigInt(offset),
        compressed_page_size: this.#writer.offset - offset,
        first_row_index: BigInt(page.start),
      };
    });
    const chunk = this.#chunk(start, start, values.length, ["PLAIN"]);
    return { chunk, ...(pages.length > 1 ? { offsetIndex: { page_locations: locations } } : {}) };
  }

  /** With statistics, in one page. */
  #values(values: readonly Value[]): Pending {
    const { nullable, unique, bloom } = this.#column;
    const { type } = this.#element;
    const start = this.#writer.offset;
    const asWritten = unique === true ? "PLAIN" : undefined;
    const chosen = useDictionary(
      values as Value[],
      type!,
      this.#element.type_length,
      asWritten,
      undefined,
      nullable !== true,
    );
    const dictionary: readonly (string | number)[] | undefined = chosen.dictionary;
    const { indexes } = chosen;
    const distinct = dictionary ?? values;
    let dictionaryAt: number | null = null;
    if (dictionary !== undefined) {
      dictionaryAt = start;
      this.#dictionaryPage(dictionary);
    }
    const dataAt = this.#writer.offset;
    const present = values.filter((value) => value !== null);
    const nulls = values.length - present.length;
    const levels = new Writer();
    if (nullable === true)
      writeRleBitPackedHybrid(
        levels,
        values.map((value) => (value === null ? 0 : 1)),
        1,
      );
    const page =
      indexes === undefined
        ? this.#plain(present)
        : indexPage(nulls === 0 ? indexes : indexes.filter((index) => index !== undefined));
    this.#dataPage(indexes === undefined ? "PLAIN" : "RLE_DICTIONARY", values.length, nulls, levels.getBytes(), page);
    const encodings: Encoding[] = indexes === undefined ? ["PLAIN"] : ["PLAIN", "RLE_DICTIONARY"];
    const chunk = this.#chunk(start, dataAt, values.length, encodings, dictionaryAt);
    const { least, most } = this.#bounds(distinct);
    Object.assign(chunk.meta_data!, {
      statistics: { min_value: least, max_value: most, null_count: BigInt(nulls) },
      encoding_stats: [
        ...(indexes === undefined ? [] : [{ page_type: "DICTIONARY_PAGE", encoding: "PLAIN", count: 1 }]),
        { page_type: "DATA_PAGE_V2", encoding: encodings.at(-1), count: 1 },
      ],
    });
    if (bloom !== true || present.length === 0) return { chunk };
    const filter = bloomOf(new Set(distinct.filter((value) => value !== null) as string[]));
    if (filter === null) throw new NotSure("another filter");
    return { chunk, bloomFilter: filter };
  }

  #plain(values: readonly (string | number)[]): Uint8Array {
    const { type } = this.#element;
    if (this.#column.type === "UUID") return repeated(uuidBytes(values[0]!), values.length);
    if (type === "INT64") return plainLongs(values as number[]);
    if (type === "BYTE_ARRAY") return plainAscii(values as string[]);
    throw new NotSure("a plain page of another type");
  }

  #dictionaryPage(values: readonly (string | number)[]): void {
    const page = this.#plain(values);
    const stored = this.#compress(page);
    const at = this.#writer.offset;
    writePageHeader(this.#writer, {
      type: "DICTIONARY_PAGE",
      uncompressed_page_size: page.length,
      compressed_page_size: stored.length,
      dictionary_page_header: { num_values: values.length, encoding: "PLAIN" },
    });
    this.#uncompressed += this.#writer.offset - at + page.length;
    this.#writer.appendBytes(stored);
  }

  #dataPage(encoding: Encoding, rows: number, nulls: number, levels: Uint8Array, page: Uint8Array): void {
    if (page.length >= pageBytesMax && this.#column.opaque !== true) throw new NotSure("several pages");
    const stored = this.#compress(page);
    const at = this.#writer.offset;
    writePageHeader(this.#writer, {
      type: "DATA_PAGE_V2",
      uncompressed_page_size: levels.length + page.length,
      compressed_page_size: levels.length + stored.length,
      data_page_header_v2: {
        num_values: rows,
        num_nulls: nulls,
        num_rows: rows,
        encoding,
        definition_levels_byte_length: levels.length,
        repetition_levels_byte_length: 0,
        is_compressed: true,
      },
    });
    this.#uncompressed += this.#writer.offset - at + levels.length + page.length;
    this.#writer.appendBytes(levels);
    this.#writer.appendBytes(stored);
  }

  /** Of what was written from `start` on. */
  #chunk(
    start: number,
    dataAt: number,
    rows: number,
    encodings: Encoding[],
    dictionaryAt: number | null = null,
  ): ColumnChunk {
    return {
      meta_data: {
        type: this.#element.type!,
        encodings,
        path_in_schema: [this.#column.name],
        codec: "GZIP",
        num_values: BigInt(rows),
        total_compressed_size: BigInt(this.#writer.offset - start),
        total_uncompressed_size: BigInt(this.#uncompressed),
        data_page_offset: BigInt(dataAt),
        ...(dictionaryAt === null ? {} : { dictionary_page_offset: BigInt(dictionaryAt) }),
      },
      file_offset: BigInt(start),
    };
  }

  /** Texts are ASCII, as whoever wrote the pages has seen: so they are in order as JavaScript compares them. */
  #bounds(values: readonly Value[]): { least?: unknown; most?: unknown } {
    let least: string | number | null = null;
    let most: string | number | null = null;
    for (const value of values) {
      if (value === null) continue;
      if (least === null || value < least) least = value;
      if (most === null || value > most) most = value;
    }
    if (least === null || most === null) return {};
    const stored = (value: string | number): unknown => {
      if (this.#column.type === "UUID") return uuidBytes(value);
      return typeof value === "number" ? BigInt(value) : value;
    };
    return { least: stored(least), most: stored(most) };
  }
}

/** Where a body has its attributes: behind `{"attributes":`. */
const attrsAt = 14;

const uuidBytes = (value: string | number): Uint8Array => hexBytes(String(value).replaceAll("-", ""));

/** Milliseconds since 1970; a day, which many rows have, is read once. */
export function times(texts: readonly string[]): number[] {
  let day = "";
  let dayStart = 0;
  return texts.map((text) => {
    if (day === "" || !text.startsWith(day)) {
      day = text.slice(0, dayLength);
      dayStart = Date.parse(day);
    }
    const time = timeOfDay(text);
    return time === null ? Date.parse(text) : dayStart + time;
  });
}

const dayLength = "2026-04-13".length;
const timeForm = /^T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]\.[0-9]{3}Z$/;
/** Milliseconds of a time such as 2026-04-13T16:00:37.879Z since its day began; null where it is written otherwise. */
function timeOfDay(text: string): number | null {
  if (text.length !== 24 || !timeForm.test(text.slice(dayLength))) return null;
  const digits = (at: number): number => (text.charCodeAt(at) - zero) * 10 + text.charCodeAt(at + 1) - zero;
  const seconds = (digits(11) * 60 + digits(14)) * 60 + digits(17);
  return seconds * 1_000 + digits(20) * 10 + text.charCodeAt(22) - zero;
}

const zero = "0".charCodeAt(0);

function repeated(value: Uint8Array, count: number): Uint8Array {
  const page = new Uint8Array(value.length * count);
  for (let at = 0; at < page.length; at += value.length) page.set(value, at);
  return page;
}

function plainBytes(values: readonly Uint8Array[]): Uint8Array {
  let size = values.length * lengthBytes;
  for (const value of values) size += value.length;
  const page = new Uint8Array(size);
  const view = new DataView(page.buffer);
  let at = 0;
  for (const value of values) {
    view.setUint32(at, value.length, true);
    page.set(value, at + lengthBytes);
    at += lengthBytes + value.length;
  }
  return page;
}

function plainAscii(values: readonly string[]): Uint8Array {
  let size = values.length * lengthBytes;
  for (const value of values) size += value.length;
  const page = new Uint8Array(size);
  const view = new DataView(page.buffer);
  let at = 0;
  for (const value of values) {
    view.setUint32(at, value.length, true);
    at += lengthBytes;
    for (let index = 0; index < value.length; index += 1) {
      const code = value.charCodeAt(index);
      if (code > 127) throw new NotSure("other letters");
      page[at] = code;
      at += 1;
    }
  }
  return page;
}

function plainLongs(values: readonly number[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(values.length * longBytes));
  for (const [index, value] of values.entries()) {
    if (!Number.isSafeInteger(value)) throw new NotSure("another number");
    view.setUint32(index * longBytes, value >>> 0, true);
    view.setInt32(index * longBytes + 4, Math.floor(value / 2 ** 32), true);
  }
  return new Uint8Array(view.buffer);
}

/** Places in a dictionary, as wide as the greatest of them. */
function indexPage(indexes: readonly number[]): Uint8Array {
  let most = 0;
  for (const index of indexes) if (index > most) most = index;
  const width = Math.ceil(Math.log2(most + 1));
  const page = new Writer();
  page.appendUint8(width);
  writeRleBitPackedHybrid(page, indexes as number[], width);
  return page.getBytes();
}
