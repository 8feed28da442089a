// Segments: the same bytes for the same rows, and every column with its type in a reader that is not ours.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { DuckDBInstance, type DuckDBConnection } from "@duckdb/node-api";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { gzip } from "../../workers/audit/hashing.ts";
import { eventAt, randomBytes, seeded, tenantId } from "../../test/simulation/audit-events.ts";
import { sampled } from "../../test/support/sampled.ts";
import { parquetMetadata, type FileMetaData } from "hyparquet";
import { parquetWriteBuffer } from "hyparquet-writer";
import { concat, hex, sha256Hex, utf8, type Bytes } from "../contract/bytes.ts";
import { eventColumns, type LoggedEvent } from "../contract/events.ts";
import { leafBody } from "./leaf.ts";
import { pageFault } from "./segment-pages.ts";
import {
  readLeaves,
  readSegment,
  rowOf,
  segmentFault,
  writeSegment,
  type Gzip,
  type SegmentIdentity,
} from "./segment.ts";
import {
  columnsOf,
  elementOf,
  newestSchema,
  successor,
  type Column,
  type SegmentSchemaVersion,
} from "./segment-schema.ts";
import type { LeafRow } from "./service.ts";

const next = seeded(21);
const range = { from: 5_000, to: 8_000 };
const leaves: LeafRow[] = Array.from({ length: 3_000 }, (_, at) => ({
  seq: range.from + at,
  salt: randomBytes(next, 16),
  body: leafBody(eventAt(at, next), range.from + at, Date.parse("2026-04-13T17:00:00.123Z") + at),
}));
const of: SegmentIdentity = { tenantId, range, version: newestSchema };
const segment = writeSegment(of, leaves, gzip);

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
    expect(hex(writeSegment(of, leaves, gzip))).toBe(hex(segment));
    const read = await readSegment(of, segment, gzip);
    if (!read.ok) throw new Error(read.reason);
    expect(read.rows.map(({ salt, body }, at) => ({ seq: range.from + at, salt, body }))).toEqual(leaves);
    const { salt: _, body, ...columns } = read.rows[1]!;
    const event = JSON.parse(body) as LoggedEvent;
    expect(columns).toEqual({ ...eventColumns(event), source_seq: event.source_seq });
  });

  const pinned: [SegmentSchemaVersion, string][] = [
    [1, "1237d02dd50824dd6a7c50215a695223606f3d7a206c523695eb4e0aa1aeb742"],
    [2, "bbc5cb2775758a790b0f59e316fe8457cda7862969fa92c8b670321e6cfd1fc0"],
  ];
  test.each(pinned)(
    "has the bytes of format %i: what verifiers recompute must not change with a version of the writer",
    async (version, sha256) => {
      const asIs: Gzip = { deflate: (bytes) => new Uint8Array(bytes), inflate: (bytes) => new Uint8Array(bytes) };
      expect(await sha256Hex(writeSegment({ ...of, version }, leaves, asIs))).toBe(sha256);
    },
  );

  test("of one schema version is refused as one of another", async () => {
    const older = writeSegment({ ...of, version: 1 }, leaves, gzip);
    expect(await readSegment({ ...of, version: 1 }, older, gzip)).toMatchObject({ ok: true });
    expect(await readSegment(of, older, gzip)).toMatchObject({ ok: false, reason: "the segment has another schema" });
    expect(await readSegment({ ...of, version: 1 }, segment, gzip)).toMatchObject({ ok: false });
    expect(segmentFault(of, older, leaves.map(rowOf), gzip)).not.toBeNull();
  });

  test("gives its leaves back without its other columns", async () => {
    const stored = leaves.map((leaf) => ({ ...leaf, bodyBytes: utf8(leaf.body) }));
    expect(await readLeaves(of, segment, gzip)).toEqual({ ok: true, leaves: stored });
  });

  test("is refused under another tenant or range, and as something that is not Parquet", async () => {
    const other = "7f0c2d9e-5a53-4d2f-9a0b-2f6a1c9f0002";
    expect(await readSegment({ ...of, tenantId: other }, segment, gzip)).toMatchObject({ ok: false });
    expect(await readSegment({ ...of, range: { from: 0, to: 3_000 } }, segment, gzip)).toMatchObject({ ok: false });
    expect(await readSegment({ ...of, range: { from: 5_000, to: 5_001 } }, segment, gzip)).toMatchObject({ ok: false });
    expect(await readSegment(of, new Uint8Array(100), gzip)).toMatchObject({ ok: false });
    expect(() => writeSegment({ ...of, range: { from: 0, to: 1 } }, leaves, gzip)).toThrow(RangeError);
  });

  test("MC-AUD-1911: DuckDB reads every column with its type", async () => {
    const described = await ask("describe select * from read_parquet(FILE)");
    expect(described.map((column) => [column["column_name"], column["column_type"]])).toEqual(
      columnsOf(newestSchema).map(({ name, type }) => [
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
      "maestro.format": "2",
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

describe("DuckDB does not read row groups that it can tell are of no use", () => {
  /** The segment with the pages of a row group destroyed: whoever reads them fails. */
  const without = (group: number): string => {
    const bytes = new Uint8Array(segment);
    for (const { meta_data: chunk } of parquetMetadata(segment.buffer).row_groups[group]!.columns) {
      const start = Number(chunk!.dictionary_page_offset ?? chunk!.data_page_offset);
      bytes.fill(0xff, start, start + Number(chunk!.total_compressed_size));
    }
    const path = join(folder, `without-${group}.parquet`);
    writeFileSync(path, bytes);
    return path;
  };
  const count = async (path: string, where: string): Promise<unknown> =>
    (await ask(`select count(*) as n, max(body) as b from read_parquet('${path}') where ${where}`))[0]?.["n"];

  test("by the statistics of seq and logged_at", async () => {
    const path = without(0);
    expect(await count(path, "seq = 7600")).toBe("1");
    expect(await count(path, "logged_at >= '2026-04-13T17:00:02.623Z'")).toBe("500");
    await expect(count(path, "seq = 5001")).rejects.toThrow(/.+/);
  });

  test("by the bloom filters of ids", async () => {
    const path = without(0);
    const id = (at: number): string => (JSON.parse(leaves[at]!.body) as LoggedEvent).id;
    expect(await count(path, `event_id = '${id(2_900)}'`)).toBe("1");
    await expect(count(path, `event_id = '${id(7)}'`)).rejects.toThrow(/.+/);
  });
});

describe("a new schema version", () => {
  test("DuckDB reads segments of every version together: what a version did not have is null there", async () => {
    const [old, young] = [join(folder, "old.parquet"), join(folder, "young.parquet")];
    const before = { from: 2_000, to: 5_000 };
    const sourced = leaves.map((leaf, at) => {
      const { seq: _, logged_at: loggedAt, ...event } = JSON.parse(leaf.body) as LoggedEvent;
      const counted = { ...event, source_seq: at + 1 };
      return { ...leaf, seq: before.from + at, body: leafBody(counted, before.from + at, Date.parse(loggedAt)) };
    });
    writeFileSync(old, writeSegment({ tenantId, range: before, version: 1 }, sourced, gzip));
    writeFileSync(young, writeSegment(of, leaves, gzip));
    const both = `read_parquet(['${old}', '${young}'], union_by_name = true)`;
    const [sums] = await ask(
      `select count(*) as n, count(distinct seq) as seqs, count(source_seq) filter (seq < 5000) as unknown, max(seq) as high from ${both}`,
    );
    expect(sums).toEqual({ n: "6000", seqs: "6000", unknown: "0", high: "7999" });
    const types = await ask(`describe select * from ${both}`);
    expect(types.map((column) => column["column_name"])).toEqual(columnsOf(newestSchema).map(({ name }) => name));
  });

  const v1 = columnsOf(1);
  const added: Column = { name: "source_seq", type: "INT64", nullable: true };
  const refused: [string, readonly Column[]][] = [
    ["removes a column", v1.slice(1)],
    ["removes the last column", v1.slice(0, -1)],
    ["retypes a column", v1.map((column) => (column.name === "units" ? { ...column, type: "STRING" } : column))],
    ["makes a column optional", v1.map((column) => (column.name === "type" ? { ...column, nullable: true } : column))],
    ["moves a column", [v1[1]!, v1[0]!, ...v1.slice(2)]],
    ["puts a column in between", [v1[0]!, added, ...v1.slice(1)]],
    ["adds a column that older segments cannot be without", [...v1, { name: "source_seq", type: "INT64" }]],
    ["adds a column twice", [...v1, added, added]],
  ];
  test.each(refused)("that %s is refused", (_, after) => expect(() => successor(v1, after)).toThrow(TypeError));

  test("that adds an optional column at the end is taken", () =>
    expect(successor(v1, [...v1, added])).toEqual(columnsOf(2)));
});

describe("every byte of a segment follows from its rows", () => {
  const few = { from: 0, to: 4 };
  const rows = Array.from({ length: 4 }, (_, at) => ({
    seq: at,
    salt: randomBytes(next, 16),
    body: leafBody(eventAt(at, next), at, Date.parse("2026-04-13T17:00:00.123Z") + at),
  }));
  const ofFew: SegmentIdentity = { tenantId, range: few, version: newestSchema };
  const small = writeSegment(ofFew, rows, gzip);
  const faultOf = (bytes: Bytes): string | null => segmentFault(ofFew, bytes, rows.map(rowOf), gzip);
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
    const stored = writeSegment(ofFew, rows, { ...gzip, deflate: (page) => new Uint8Array(gzipSync(page)) });
    expect(hex(stored)).not.toBe(hex(small));
    expect(faultOf(stored)).toBeNull();
  });

  test("so any other byte in its filters, indexes or footer is found", () => {
    const start = pagesEnd();
    expect(small.length - start).toBeGreaterThan(1_000);
    const places = Array.from({ length: small.length - start }, (_, at) => start + at);
    for (const at of sampled(places, 30)) {
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
    expect(segmentFault(ofFew, small, rows.toReversed().map(rowOf), gzip)).not.toBeNull();
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

describe("a segment that nobody signed costs whoever looks at it little", () => {
  const two = { from: 0, to: 2 };
  const plain: Record<Column["type"], unknown> = {
    UUID: new Uint8Array(16),
    INT64: 1n,
    TIMESTAMP: 1n,
    STRING: "short",
    BYTE_ARRAY: new Uint8Array(16),
  };
  /** A file of the right schema and name. `cell`: of both of a column's rows, where it is not a short one. */
  function forged(cell: (column: Column) => { first: unknown; second: unknown; encoding: "PLAIN" | "RLE_DICTIONARY" }) {
    const columns = columnsOf(newestSchema);
    const said = { format: newestSchema, tenant_id: tenantId, from: two.from, to: two.to };
    const file = parquetWriteBuffer({
      schema: [{ name: "root", num_children: columns.length }, ...columns.map((column) => elementOf(column))],
      codec: "GZIP",
      compressors: { GZIP: (page) => gzip.deflate(page) },
      kvMetadata: Object.entries(said).map(([key, value]) => ({ key: `maestro.${key}`, value: String(value) })),
      columnData: columns.map((column) => {
        const { first, second, encoding } = cell(column);
        return { name: column.name, data: [first, second], encoding, columnIndex: false, statistics: false };
      }),
    });
    return readSegment({ tenantId, range: two, version: newestSchema }, new Uint8Array(file), gzip);
  }
  const short = ({ type }: Column) => ({ first: plain[type], second: plain[type], encoding: "PLAIN" as const });

  test("where a dictionary would have one long body or salt hashed for each row", async () => {
    expect(await forged(short)).toMatchObject({ ok: true });
    for (const name of ["body", "salt"]) {
      const read = await forged((column) =>
        column.name === name ? { ...short(column), encoding: "RLE_DICTIONARY" } : short(column),
      );
      expect(read).toMatchObject({ ok: false, reason: expect.stringContaining("kind of a page") as string });
    }
    // Words that repeat have one.
    const words = await forged((column) =>
      column.name === "type" ? { ...short(column), encoding: "RLE_DICTIONARY" } : short(column),
    );
    expect(words).toMatchObject({ ok: true });
  });

  test("where its columns inflate to what no segment has, however it is spread over them", async () => {
    const long = "x".repeat(25 * 1024 * 1024);
    const spread = (names: readonly string[]) =>
      forged((column) => ({ ...short(column), ...(names.includes(column.name) ? { first: long } : {}) }));
    expect(await spread(["body", "attrs", "rule"])).toMatchObject({ ok: true });
    expect(await spread(["body", "attrs", "rule", "action"])).toMatchObject({
      ok: false,
      reason: expect.stringContaining("inflated size of a page") as string,
    });
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
