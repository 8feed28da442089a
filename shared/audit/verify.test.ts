// The verifier against every kind of change to every kind of artifact: delete, edit, reorder, append, sign again.

import { parquetMetadata } from "hyparquet";
import { beforeAll, describe, expect, test } from "vitest";
import { gzip, sha256 } from "../../workers/audit/hashing.ts";
import { eventAt, seeded, tenantId } from "../../test/simulation/audit-events.ts";
import { firstOf, isDeep, sampledPlaces, sampleSeed } from "../../test/support/sampled.ts";
import {
  nameOfRange,
  newKeys,
  publishedKeysOf,
  textsOf,
  World,
  type TestKeys,
} from "../../test/simulation/audit-world.ts";
import { base64, base64Bytes, sha256Hex, utf8, utf8Text, type Bytes } from "../contract/bytes.ts";
import { canonicalJson, type SignedBundle } from "../contract/events.ts";
import { signStatement } from "../signing/bundle.ts";
import { inTotoStatement, type Statement } from "../signing/statement.ts";
import { originOf, signCheckpoint } from "./checkpoint.ts";
import { parseRange } from "./layout.ts";
import { readSegment, writeSegment, type SegmentIdentity } from "./segment.ts";
import { newestSchema, type SegmentRow } from "./segment-schema.ts";
import type { LeafRow } from "./service.ts";
import { verifyLog, type LogReader, type LogVerdict, type RememberedHead } from "./verify.ts";

let keys: TestKeys;
let strangers: TestKeys;
let world: World;
let note: string;
/** [0, 300) holds one full tile, [300, 309) and [309, 310) follow. */
const ranges = [nameOfRange(0, 300), nameOfRange(300, 309), nameOfRange(309, 310)] as const;

beforeAll(async () => {
  keys = await newKeys();
  strangers = await newKeys();
  const next = seeded(77);
  const decisions = Array.from({ length: 300 }, (_, at) => canonicalJson(eventAt(300 + at * 3, next)));
  world = new World(keys, 78);
  world.log.append(tenantId, decisions);
  await world.settle();
  world.log.append(
    tenantId,
    Array.from({ length: 9 }, (_, at) => canonicalJson(eventAt(3_000 + at * 3, next))),
  );
  await world.settle();
  world.log.append(tenantId, [canonicalJson(eventAt(6_000, next))]);
  await world.settle();
  note = world.log.checkpoint()!;
});

interface Change {
  readonly segments?: Readonly<Record<string, Bytes | null>>;
  readonly manifests?: Readonly<Record<string, Bytes | null>>;
  readonly checkpoint?: string | null;
  readonly tiles?: false;
}

function changed(change: Change): LogReader {
  const real = world.reader(change.checkpoint === undefined ? note : change.checkpoint);
  const manifests = change.manifests ?? {};
  const segments = change.segments ?? {};
  return {
    ...real,
    ...(change.tiles === false ? { tile: () => Promise.resolve(null) } : {}),
    // A manifest that is gone is gone from the list too.
    ranges: async (after) => (await real.ranges(after)).filter((name) => manifests[name] !== null),
    manifest: async (range) => (range in manifests ? (manifests[range] ?? null) : await real.manifest(range)),
    segment: async (range) => (range in segments ? (segments[range] ?? null) : await real.segment(range)),
  };
}

const verify = (change: Change, remembered: RememberedHead | null = null, by = keys): Promise<LogVerdict> =>
  verifyLog(changed(change), { tenantId, keys: publishedKeysOf(by), sha256, gzip, remembered });

const named = (range: string): SegmentIdentity => ({ tenantId, range: parseRange(range)!, version: newestSchema });
const segmentOf = (range: string): Bytes => world.objects.get(`${world.prefix}seg/${range}.parquet`)!;
const manifestOf = (range: string): Bytes => world.objects.get(`${world.prefix}manifest/${range}.json`)!;

async function rowsOf(range: string): Promise<SegmentRow[]> {
  const read = await readSegment(named(range), segmentOf(range), gzip);
  if (!read.ok) throw new Error(read.reason);
  return read.rows;
}

const written = (range: string, leaves: readonly LeafRow[]): Bytes => writeSegment(named(range), leaves, gzip);

const statementIn = (bytes: Bytes): Statement => {
  const bundle = JSON.parse(utf8Text(bytes)) as SignedBundle;
  return inTotoStatement.parse(JSON.parse(utf8Text(base64Bytes(bundle.dsseEnvelope.payload))));
};

async function resigned(
  range: string,
  change: (statement: Statement) => Statement | Promise<Statement>,
  by = keys,
): Promise<Bytes> {
  return utf8(canonicalJson(await signStatement(by.statement, await change(statementIn(manifestOf(range))))));
}

const withPredicate = (statement: Statement, change: Record<string, unknown>): Statement => ({
  ...statement,
  predicate: { ...statement.predicate, ...change },
});

/** A row whose columns are written from one body, and whose body is another. */
function lieAbout(row: LeafRow, rule: string): LeafRow {
  let reads = 0;
  return {
    seq: row.seq,
    salt: row.salt,
    get body(): string {
      reads += 1;
      return reads === 1 ? row.body.replace('"rule":"ok"', `"rule":"${rule}"`) : row.body;
    },
  };
}

describe("an untouched log", () => {
  test("is VERIFIED-TO its size without a remembered head, and VERIFIED with one, at any boundary or within", async () => {
    expect(world.segmentRanges()).toEqual([...ranges]);
    const first = await verify({});
    expect(first).toMatchObject({ verdict: "VERIFIED-TO", size: 310, first_bad: null });
    expect(await verify({}, first.head)).toMatchObject({ verdict: "VERIFIED", size: 310 });
    const earlier = await verify({ checkpoint: checkpointOf(ranges[0]) });
    expect(earlier).toMatchObject({ verdict: "VERIFIED-TO", size: 300 });
    expect(await verify({}, earlier.head)).toMatchObject({ verdict: "VERIFIED", size: 310 });
  });

  test("is verified from the bucket alone, by the head in its newest manifest", async () => {
    expect(await verify({ checkpoint: null })).toMatchObject({ verdict: "VERIFIED-TO", size: 310 });
  });

  test("without a row is verified to nothing", async () => {
    const empty = new World(keys, 1);
    const verdict = await verifyLog(empty.reader(), {
      tenantId,
      keys: empty.published,
      sha256,
      gzip,
      remembered: null,
    });
    expect(verdict).toMatchObject({ verdict: "VERIFIED-TO", size: 0 });
  });

  test("tells how far it is", async () => {
    const seen: number[] = [];
    const options = { tenantId, keys: publishedKeysOf(keys), sha256, gzip, remembered: null };
    await verifyLog(changed({}), { ...options, onProgress: (rows, total) => seen.push(rows, total) });
    expect(seen).toEqual([300, 310, 309, 310, 310, 310]);
  });
});

const checkpointOf = (range: string): string => String(statementIn(manifestOf(range)).predicate["checkpoint"]);

describe("what is missing is a GAP", () => {
  test.each([0, 1, 2])("segment %i, manifest %i, or both", async (at) => {
    const range = ranges[at]!;
    const from = parseRange(range)!.from;
    const gap = { verdict: "GAP", size: from, first_bad: { row: from } };
    expect(await verify({ segments: { [range]: null } })).toMatchObject(gap);
    expect(await verify({ manifests: { [range]: null } })).toMatchObject(gap);
    expect(await verify({ segments: { [range]: null }, manifests: { [range]: null } })).toMatchObject(gap);
  });

  test("a tail cut off is seen by the published checkpoint, and by a remembered head where that is cut back too", async () => {
    const { head } = await verify({});
    const cut: Change = { manifests: { [ranges[2]]: null } };
    expect(await verify(cut)).toMatchObject({ verdict: "GAP", first_bad: { row: 309 } });
    const cutBack: Change = { ...cut, checkpoint: checkpointOf(ranges[1]) };
    expect(await verify(cutBack)).toMatchObject({ verdict: "VERIFIED-TO", size: 309 });
    expect(await verify(cutBack, head)).toMatchObject({ verdict: "GAP", first_bad: { row: 309 } });
  });
});

describe("what was changed is TAMPERED, the row named", () => {
  const edits: [string, (rows: LeafRow[]) => LeafRow[]][] = [
    ["edited", (rows) => rows.map((row) => (row.seq === 304 ? { ...row, body: row.body.replace("ok", "no") } : row))],
    ["salted anew", (rows) => rows.map((row) => (row.seq === 304 ? { ...row, salt: new Uint8Array(16) } : row))],
    ["reordered", (rows) => [...rows.slice(0, 4), rows[5]!, rows[4]!, ...rows.slice(6)]],
    [
      "of another tenant",
      (rows) => rows.map((row) => (row.seq === 304 ? { ...row, body: row.body.replace("f0001", "f0002") } : row)),
    ],
    [
      "numbered anew",
      (rows) =>
        rows.map((row) => (row.seq === 304 ? { ...row, body: row.body.replace('"seq":304', '"seq":305') } : row)),
    ],
    [
      "spelled otherwise",
      (rows) => rows.map((row) => (row.seq === 304 ? { ...row, body: row.body.replace("{", "{ ") } : row)),
    ],
  ];

  test.each(edits)("a row %s, in a segment written anew", async (_, edit) => {
    const segment = written(ranges[1], edit(await rowsOf(ranges[1])));
    expect(await verify({ segments: { [ranges[1]]: segment } })).toMatchObject({
      verdict: "TAMPERED",
      size: 300,
      first_bad: { range: ranges[1] },
    });
  });

  test.each(edits)("a row %s, with a manifest that the log's own key signed for that segment", async (_, edit) => {
    const segment = written(ranges[1], edit(await rowsOf(ranges[1])));
    expect(await verifySigned(ranges[1], segment)).toMatchObject({ verdict: "TAMPERED", size: 300 });
  });

  test("a row of a full tile is named by the tile, where the row does not contradict itself", async () => {
    const rows = (await rowsOf(ranges[0])).map((row) => (row.seq === 123 ? { ...row, salt: new Uint8Array(16) } : row));
    const segments = { [ranges[0]]: written(ranges[0], rows) };
    expect(await verify({ segments })).toMatchObject({
      verdict: "TAMPERED",
      first_bad: { row: 123, range: ranges[0] },
    });
    expect(await verify({ segments, tiles: false })).toMatchObject({
      verdict: "TAMPERED",
      first_bad: { row: null, range: ranges[0] },
    });
  });

  test("a typed column that is not what the leaf says, though the segment is signed and the leaves are untouched", async () => {
    // The writer computes the columns from the body: a body that reads otherwise the second time makes them lie.
    const rows = await rowsOf(ranges[1]);
    const lying = rows.map((row) => (row.seq === 304 ? lieAbout(row, "wrong_rule") : row));
    const segment = written(ranges[1], lying);
    expect(await verifySigned(ranges[1], segment)).toMatchObject({
      verdict: "TAMPERED",
      reason: expect.stringContaining("column rule"),
      first_bad: { row: 304, range: ranges[1] },
    });
  });

  async function verifySigned(range: string, segment: Bytes): Promise<LogVerdict> {
    const manifest = await resigned(range, async (statement) => ({
      ...withPredicate(statement, { segment_bytes: segment.length }),
      subject: [{ name: statement.subject[0]!.name, digest: { sha256: await sha256Hex(segment) } }],
    }));
    return await verify({ segments: { [range]: segment }, manifests: { [range]: manifest } });
  }
  const refusedAsWhole = {
    verdict: "TAMPERED",
    size: 0,
    reason: expect.stringContaining("not what its rows make") as string,
    first_bad: { row: null, range: ranges[0] },
  };

  /** The bytes in the footer that tools read before any row; a lie of the same length, wherever it stands. */
  const lies: [string, string, string][] = [
    ["least and greatest type, by which DuckDB skips row groups", "mc.policy.de", "zz.policy.de"],
    ["least and greatest package", "tools/sbom-inven", "aaaaa/sbom-inven"],
    ["maker", "maestro-conductor", "maestro-pretender"],
  ];
  test.each(lies)("a footer that lies about the %s, though the log's own key signed it", async (_, truth, lie) => {
    const forged = Buffer.from(segmentOf(ranges[0]));
    const footer = forged.length - 8 - forged.readUInt32LE(forged.length - 8);
    expect(forged.indexOf(truth, footer)).toBeGreaterThan(0);
    for (let at = forged.indexOf(truth, footer); at >= 0; at = forged.indexOf(truth, at + 1)) forged.write(lie, at);
    expect(await verifySigned(ranges[0], new Uint8Array(forged))).toMatchObject(refusedAsWhole);
  });

  test("a bloom filter that hides every id, though the log's own key signed it", async () => {
    const forged = new Uint8Array(segmentOf(ranges[0]));
    const { bloom_filter_offset: offset, bloom_filter_length: length } = parquetMetadata(
      forged.buffer,
    ).row_groups[0]!.columns.find(({ meta_data: chunk }) => chunk?.path_in_schema[0] === "event_id")!.meta_data!;
    forged.fill(0, Number(offset) + 20, Number(offset) + Number(length));
    expect(await verifySigned(ranges[0], forged)).toMatchObject(refusedAsWhole);
  });

  test("a manifest in another spelling, which says something else to a reader that takes the first of two members", async () => {
    const text = utf8Text(manifestOf(ranges[1]));
    for (const other of [text.replace("{", '{"dsseEnvelope":{},'), ` ${text}`, `${text}\n`]) {
      expect(await verify({ manifests: { [ranges[1]]: utf8(other) } })).toMatchObject({
        verdict: "TAMPERED",
        size: 300,
      });
    }
    expect(await verify({ manifests: { [ranges[1]]: new Uint8Array([0xff]) } })).toMatchObject({ verdict: "TAMPERED" });
  });

  test.each([ranges[0], ranges[1], ranges[2]])("any flipped byte of the segment %s", async (range) => {
    const bytes = segmentOf(range);
    const each = Math.ceil(bytes.length / (isDeep ? 400 : 5));
    for (let at = firstOf(sampleSeed, each); at < bytes.length; at += each) {
      const flipped = new Uint8Array(bytes);
      flipped[at]! ^= 0x10;
      expect((await verify({ segments: { [range]: flipped } })).verdict).toBe("TAMPERED");
    }
    expect((await verify({ segments: { [range]: new Uint8Array([...bytes, 0]) } })).verdict).toBe("TAMPERED");
    expect((await verify({ segments: { [range]: bytes.slice(0, -1) } })).verdict).toBe("TAMPERED");
  });

  test("rows deleted or appended, in a file that says so", async () => {
    const [range, next] = [ranges[1], ranges[2]];
    const rows = [...(await rowsOf(range)), ...(await rowsOf(next))];
    for (const to of [308, 310]) {
      const segment = writeSegment({ ...named(range), range: { from: 300, to } }, rows.slice(0, to - 300), gzip);
      expect(await verify({ segments: { [range]: segment } })).toMatchObject({
        verdict: "TAMPERED",
        first_bad: { range },
      });
    }
  });

  test("segments and manifests that changed places", async () => {
    expect((await verify({ segments: { [ranges[1]]: segmentOf(ranges[2]) } })).verdict).toBe("TAMPERED");
    expect((await verify({ manifests: { [ranges[1]]: manifestOf(ranges[2]) } })).verdict).toBe("TAMPERED");
  });

  test("a manifest signed by a stranger, or by a published key for another use", async () => {
    const same = (statement: Statement): Statement => statement;
    const byStranger = await resigned(ranges[1], same, strangers);
    expect(await verify({ manifests: { [ranges[1]]: byStranger } })).toMatchObject({
      verdict: "TAMPERED",
      reason: expect.stringContaining("not known"),
    });
    const published = publishedKeysOf(keys);
    const receiptsOnly = { ...published, keys: published.keys.filter(({ use }) => use !== "manifest") };
    const options = { tenantId, keys: receiptsOnly, sha256, gzip, remembered: null };
    expect((await verifyLog(changed({}), options)).verdict).toBe("TAMPERED");
    const young = {
      ...published,
      keys: published.keys.map((key) => ({ ...key, not_before: "2030-01-01T00:00:00.000Z" })),
    };
    expect((await verifyLog(changed({}), { ...options, keys: young })).verdict).toBe("TAMPERED");
  });

  const claims: [string, Record<string, unknown>][] = [
    ["range", { from: 301 }],
    ["row count", { row_count: 8 }],
    ["tree size", { tree_size: 310 }],
    ["root", { root_sha256: "0".repeat(64) }],
    ["previous range", { previous: null }],
    ["tenant", { tenant_id: "7f0c2d9e-5a53-4d2f-9a0b-2f6a1c9f0002" }],
    ["times", { first_logged_at: "2026-04-13T16:00:00.001Z" }],
    ["format", { schema_version: 1 }],
    ["format of the future", { schema_version: 3 }],
    ["size", { segment_bytes: 1 }],
  ];
  test.each(claims)("a manifest that lies about its %s, signed by the log's own key", async (_, change) => {
    const manifest = await resigned(ranges[1], (statement) => withPredicate(statement, change));
    expect(await verify({ manifests: { [ranges[1]]: manifest } })).toMatchObject({ verdict: "TAMPERED", size: 300 });
  });

  test("any flipped byte of a manifest", async () => {
    const bytes = manifestOf(ranges[1]);
    for (const at of sampledPlaces(bytes.length, 401)) {
      const flipped = new Uint8Array(bytes);
      flipped[at]! ^= 0x01;
      expect((await verify({ manifests: { [ranges[1]]: flipped } })).verdict).toBe("TAMPERED");
    }
  });

  test("a checkpoint that is altered, another log's, a stranger's, or ends inside of a segment", async () => {
    const root = base64Bytes(note.split("\n")[2]!);
    const origin = originOf("maestro.test/log", tenantId);
    const notes = [
      note.replace("\n310\n", "\n311\n"),
      note.replace(base64(root), base64(new Uint8Array(32))),
      await signCheckpoint(strangers.checkpoint, { origin, size: 310, root }),
      await signCheckpoint(keys.checkpoint, { origin: `${origin}x`, size: 310, root }),
      await signCheckpoint(keys.checkpoint, { origin, size: 305, root }),
      "",
    ];
    for (const checkpoint of notes) expect((await verify({ checkpoint })).verdict).toBe("TAMPERED");
  });
});

describe("two heads that cannot both be true are DIVERGED", () => {
  test("a second signed checkpoint of the same size", async () => {
    const origin = originOf("maestro.test/log", tenantId);
    const checkpoint = await signCheckpoint(keys.checkpoint, { origin, size: 310, root: new Uint8Array(32) });
    expect(await verify({ checkpoint })).toMatchObject({ verdict: "DIVERGED" });
  });

  test("a remembered head that this log does not continue, though all of it is signed", async () => {
    const another = new World(keys, 5);
    another.log.append(tenantId, textsOf(9, seeded(123)));
    await another.settle();
    const { head } = await verifyLog(another.reader(), {
      tenantId,
      keys: another.published,
      sha256,
      gzip,
      remembered: null,
    });
    expect(await verify({}, head)).toMatchObject({ verdict: "DIVERGED", first_bad: { row: null, range: ranges[0] } });
  });
});
