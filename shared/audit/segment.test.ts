// Segments: the same bytes for the same rows, and every column with its type in a reader that is not ours.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { DuckDBInstance, type DuckDBConnection } from "@duckdb/node-api";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { gzip } from "../../workers/audit/hashing.ts";
import { eventAt, randomBytes, seeded, tenantId } from "../../test/simulation/audit-events.ts";
import { parquetMetadata, type FileMetaData } from "hyparquet";
import { concat, hex, sha256Hex, type Bytes } from "../contract/bytes.ts";
import { eventColumns, type LoggedEvent } from "../contract/events.ts";
import { leafBody } from "./leaf.ts";
import { pageFault } from "./segment-pages.ts";
import { readLeaves, readSegment, rowOf, segmentColumns, segmentFault, writeSegment, type Gzip } from "./segment.ts";
import type { LeafRow } from "./service.ts";

const next = seeded(21);
const range = { from: 5_000, to: 8_000 };
const leaves: LeafRow[] = Array.from({ length: 3_000 }, (_, at) => ({
  seq: range.from + at,
  salt: randomBytes(next, 16),
  body: leafBody(eventAt(at, next), range.from + at, Date.parse("2026-04-13T17:00:00.123Z") + at),
}));
const segment = writeSegment(tenantId, range, leaves, gzip);

let folder: string;
let file: string;
let connection: DuckDBConnection;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "maestro-segment-"));
  file = join(folder, "segment.parquet");
  writeFileSync(file, segment);
  connection = await (await DuckDBInstance.create(":memory:")).connect();
  await connection.run("set timezone = 'UTC'");
});
afterAll(() => {
  connection.closeSync();
  rmSync(folder, { recursive: true });
});
const ask = async (query: string): Promise<Record<string, unknown>[]> =>
  (await connection.runAndReadAll(query.replaceAll("FILE", `'${file}'`))).getRowObjectsJson();

describe("a segment", () => {
  test("has the same bytes for the same rows, and gives them back exactly", async () => {
    expect(hex(writeSegment(tenantId, range, leaves, gzip))).toBe(hex(segment));
    const read = await readSegment(segment, tenantId, range, gzip);
    if (!read.ok) throw new Error(read.reason);
    expect(read.rows.map(({ salt, body }, at) => ({ seq: range.from + at, salt, body }))).toEqual(leaves);
    const { salt: _, body, ...columns } = read.rows[1]!;
    expect(columns).toEqual(eventColumns(JSON.parse(body) as LoggedEvent));
  });

  test("has the bytes of format 1: what verifiers recompute must not change with a version of the writer", async () => {
    const asIs: Gzip = { deflate: (bytes) => new Uint8Array(bytes), inflate: (bytes) => new Uint8Array(bytes) };
    expect(await sha256Hex(writeSegment(tenantId, range, leaves, asIs))).toBe(
      "1237d02dd50824dd6a7c50215a695223606f3d7a206c523695eb4e0aa1aeb742",
    );
  });

  test("gives its leaves back without its other columns", async () => {
    expect(await readLeaves(segment, tenantId, range, gzip)).toEqual({ ok: true, leaves });
  });

  test("is refused under another tenant or range, and as something that is not Parquet", async () => {
    const other = "7f0c2d9e-5a53-4d2f-9a0b-2f6a1c9f0002";
    expect(await readSegment(segment, other, range, gzip)).toMatchObject({ ok: false });
    expect(await readSegment(segment, tenantId, { from: 0, to: 3_000 }, gzip)).toMatchObject({ ok: false });
    expect(await readSegment(segment, tenantId, { from: 5_000, to: 5_001 }, gzip)).toMatchObject({ ok: false });
    expect(await readSegment(new Uint8Array(100), tenantId, range, gzip)).toMatchObject({ ok: false });
    expect(() => writeSegment(tenantId, { from: 0, to: 1 }, leaves, gzip)).toThrow(RangeError);
  });

  test("MC-AUD-1911: DuckDB reads every column with its type", async () => {
    const described = await ask("describe select * from read_parquet(FILE)");
    expect(described.map((column) => [column["column_name"], column["column_type"]])).toEqual(
      segmentColumns.map(({ name, type }) => [
        name,
        { UUID: "UUID", INT64: "BIGINT", TIMESTAMP: "TIMESTAMP WITH TIME ZONE", STRING: "VARCHAR", BYTE_ARRAY: "BLOB" }[
          type
        ],
      ]),
    );
    const [row] = await ask(
      "select *, hex(salt) as salt_hex, epoch_ms(logged_at) as ms from read_parquet(FILE) where seq = 5001",
    );
    const event = JSON.parse(leaves[1]!.body) as LoggedEvent;
    expect(row).toMatchObject({
      tenant_id: tenantId,
      seq: "5001",
      event_id: event.id,
      type: "mc.execution.started",
      channel: "stable",
      units: "1",
      duration_ms: null,
      body: leaves[1]!.body,
      salt_hex: hex(leaves[1]!.salt).toUpperCase(),
      ms: String(Date.parse(event.logged_at)),
    });
    const [sums] = await ask(
      "select count(*) as n, sum(units) as units, count(distinct event_id) as ids, min(seq) as low, max(seq) as high from read_parquet(FILE)",
    );
    const units = leaves.map(({ body }) => eventColumns(JSON.parse(body) as LoggedEvent).units ?? 0);
    expect(sums).toEqual({
      n: "3000",
      units: String(units.reduce((all, one) => all + one, 0)),
      ids: "3000",
      low: "5000",
      high: "7999",
    });
  });

  test("says what it is, and lets readers skip row groups by statistics and bloom filters", async () => {
    const said = await ask("select decode(key) as key, decode(value) as value from parquet_kv_metadata(FILE)");
    expect(Object.fromEntries(said.map((entry) => [entry["key"], entry["value"]]))).toMatchObject({
      "maestro.format": "1",
      "maestro.tenant_id": tenantId,
      "maestro.from": "5000",
      "maestro.to": "8000",
    });
    const groups = await ask(
      "select row_group_id, stats_min_value as low, stats_max_value as high, compression from parquet_metadata(FILE) where path_in_schema = 'seq' order by 1",
    );
    expect(groups.map(({ low, high }) => [low, high])).toEqual([
      ["5000", "7499"],
      ["7500", "7999"],
    ]);
    expect(groups[0]?.["compression"]).toBe("GZIP");
    const probed = await ask("select bloom_filter_excludes from parquet_bloom_probe(FILE, 'event_id', 'evt_nobody')");
    expect(probed.map((probe) => probe["bloom_filter_excludes"])).toEqual([true, true]);
  });
});

describe("every byte of a segment follows from its rows", () => {
  const few = { from: 0, to: 4 };
  const rows = Array.from({ length: 4 }, (_, at) => ({
    seq: at,
    salt: randomBytes(next, 16),
    body: leafBody(eventAt(at, next), at, Date.parse("2026-04-13T17:00:00.123Z") + at),
  }));
  const small = writeSegment(tenantId, few, rows, gzip);
  const faultOf = (bytes: Bytes): string | null => segmentFault(bytes, tenantId, few, rows.map(rowOf), gzip);
  const metadataOf = (bytes: Bytes): FileMetaData => parquetMetadata(bytes.buffer);
  const pagesEnd = (): number => {
    const chunks = metadataOf(small).row_groups.flatMap(({ columns }) => columns.map(({ meta_data: chunk }) => chunk!));
    return Math.max(
      ...chunks.map((chunk) =>
        Number((chunk.dictionary_page_offset ?? chunk.data_page_offset) + chunk.total_compressed_size),
      ),
    );
  };

  test("whichever zlib compressed them", () => {
    expect(faultOf(small)).toBeNull();
    const stored = writeSegment(tenantId, few, rows, { ...gzip, deflate: (page) => new Uint8Array(gzipSync(page)) });
    expect(hex(stored)).not.toBe(hex(small));
    expect(faultOf(stored)).toBeNull();
  });

  test("so any other byte in its filters, indexes or footer is found", () => {
    const start = pagesEnd();
    expect(small.length - start).toBeGreaterThan(1_000);
    for (let at = start; at < small.length; at += 1) {
      const flipped = new Uint8Array(small);
      flipped[at]! ^= 1 << (at & 7);
      expect(faultOf(flipped), `byte ${at} of ${small.length}`).not.toBeNull();
    }
  });

  test("so bytes that no column covers are found, wherever they lie", () => {
    for (const at of [0, 4, pagesEnd(), small.length - 8, small.length]) {
      expect(faultOf(concat(small.subarray(0, at), new Uint8Array(3), small.subarray(at)))).not.toBeNull();
    }
    expect(faultOf(small.slice(0, -1))).not.toBeNull();
    expect(segmentFault(small, tenantId, few, rows.toReversed().map(rowOf), gzip)).not.toBeNull();
  });

  const edits: [string, (metadata: FileMetaData) => void][] = [
    [
      "a dictionary behind its data",
      (metadata) => {
        const chunk = chunkOf(metadata, "tenant_id");
        const dictionary = chunk.dictionary_page_offset!;
        chunk.dictionary_page_offset = chunk.data_page_offset;
        chunk.data_page_offset = dictionary;
      },
    ],
    [
      "a dictionary that is not told of",
      (metadata) => void delete chunkOf(metadata, "tenant_id").dictionary_page_offset,
    ],
    ["data in the middle of a page", (metadata) => void (chunkOf(metadata, "seq").data_page_offset += 1n)],
    [
      "two columns that overlap",
      (metadata) => {
        const [first, second] = [chunkOf(metadata, "logged_at"), chunkOf(metadata, "occurred_at")];
        Object.assign(second, first, { path_in_schema: second.path_in_schema });
      },
    ],
    ["a gap between columns", (metadata) => void (chunkOf(metadata, "body").total_compressed_size -= 1n)],
  ];
  const chunkOf = (metadata: FileMetaData, name: string) =>
    metadata.row_groups[0]!.columns.find(({ meta_data: chunk }) => chunk?.path_in_schema[0] === name)!.meta_data!;

  test.each(edits)("and %s is refused before a page is read", (_, edit) => {
    expect(pageFault(segment.buffer, metadataOf(segment), range, 2_500)).toBeNull();
    const metadata = metadataOf(segment);
    edit(metadata);
    expect(() => {
      const fault = pageFault(segment.buffer, metadata, range, 2_500);
      if (fault !== null) throw new RangeError(fault);
    }).toThrow(RangeError);
  });
});

describe("a compressed page has one reading", () => {
  const page = new TextEncoder().encode("a page");
  const whole = gzip.deflate(page);
  const read = (bytes: Uint8Array): Uint8Array => gzip.inflate(bytes, page.length);
  test("and is refused with anything in front of it, behind it, or between", () => {
    expect(read(whole)).toEqual(page);
    const empty = gzip.deflate(new Uint8Array(0));
    const named = new Uint8Array(whole);
    named[3] = 0b1000;
    const checksum = new Uint8Array(whole);
    checksum[whole.length - 8]! ^= 1;
    const others: [Uint8Array, RegExp][] = [
      [concat(empty, whole), /behind/],
      [concat(whole, empty), /behind/],
      [concat(whole, new Uint8Array(8)), /behind/],
      [concat(whole, whole.subarray(-8)), /behind/],
      [new Uint8Array(gzipSync(page.subarray(1))), /size/],
      [named, /plain/],
      [checksum, /checksum/],
      [whole.subarray(0, -1), /unexpected end|behind|size/],
      [new Uint8Array(0), /plain/],
    ];
    for (const [bytes, reason] of others) expect(() => read(bytes)).toThrow(reason);
  });
});
