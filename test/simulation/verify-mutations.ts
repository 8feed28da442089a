// Changes to a log that no verifier may pass over: every kind (delete, append, reorder, edit, truncate, swap, replay, sign
// again) on every artifact (row, segment, manifest, checkpoint, tile, key set, name), with the verdict that each must have.
// Many are signed with the log's own keys and add up but for the one lie, so that only the check that looks for it can see it.
// Used by shared/audit/verify-mutations.test.ts, and by verify-plants.test.ts to find out whether each check is needed.

import { parquetMetadata } from "hyparquet";
import { originOf, signCheckpoint } from "../../shared/audit/checkpoint.ts";
import { hashLeaf } from "../../shared/audit/leaf.ts";
import { manifestKey, parseRange, rangeName, segmentKey, tileKey, type Range } from "../../shared/audit/layout.ts";
import { manifestStatement } from "../../shared/audit/manifest.ts";
import { readLeaves, writeSegment, type Gzip } from "../../shared/audit/segment.ts";
import { columnsOf, newestSchema, type SegmentRow } from "../../shared/audit/segment-schema.ts";
import type { LeafRow } from "../../shared/audit/service.ts";
import { tileWidth } from "../../shared/audit/tiles.ts";
import { appendLeafHash, emptyFrontier, rootOf } from "../../shared/audit/tree.ts";
import type { LogReader, LogVerdict, RememberedHead, VerdictWord, VerifyOptions } from "../../shared/audit/verify.ts";
import {
  base64,
  base64Bytes,
  concat,
  hex,
  sha256Hex,
  utf8,
  utf8Text,
  type Bytes,
} from "../../shared/contract/bytes.ts";
import { canonicalJson, eventText, type LoggedEvent, type SignedBundle } from "../../shared/contract/events.ts";
import type { PublishedKeys } from "../../shared/contract/http-audit.ts";
import { preAuthEncoding, signStatement, statementPayloadType } from "../../shared/signing/bundle.ts";
import { inTotoStatement, type Statement } from "../../shared/signing/statement.ts";
import { gzip, sha256 } from "../../workers/audit/hashing.ts";
import { eventAt, seeded, tenantId } from "./audit-events.ts";
import { newKeys, originPrefix, publishedKeysOf, World, type TestKeys } from "./audit-world.ts";

export interface PublishedLog {
  /** By key, as in the bucket. */
  readonly objects: ReadonlyMap<string, Bytes>;
  readonly checkpoint: string | null;
  readonly remembered: RememberedHead | null;
  /** Anchored heads. */
  readonly witnessed?: readonly RememberedHead[];
  readonly keys: PublishedKeys;
  /** What the reader lists, where that is not what the keys of manifests and segments say. */
  readonly names?: readonly string[];
}

export interface Mutation {
  readonly name: string;
  readonly expected: { readonly verdict: VerdictWord; readonly row?: number | null; readonly reason: string };
  readonly change: () => PublishedLog | Promise<PublishedLog>;
}

/** Whether a mutation was seen as it must be; `found` is what was seen instead. */
export function outcomeOf(
  { expected }: Mutation,
  { verdict, reason, first_bad: bad }: LogVerdict,
): { readonly isExpected: boolean; readonly found: string } {
  const row = bad?.row ?? null;
  const isExpected =
    verdict === expected.verdict &&
    (expected.row === undefined || expected.row === row) &&
    reason.includes(expected.reason);
  return { isExpected, found: `${verdict} row ${row}: ${reason}` };
}

/** What a verifier of this log has in its hands, but for its hash and its inflater. */
export const optionsOf = (
  log: PublishedLog,
): Pick<VerifyOptions, "tenantId" | "keys" | "remembered" | "witnessed"> => ({
  tenantId,
  keys: log.keys,
  remembered: log.remembered,
  witnessed: log.witnessed ?? [],
});

export function readerOf(log: PublishedLog): LogReader {
  const get = (key: string): Promise<Bytes | null> => Promise.resolve(log.objects.get(`${tenantId}/${key}`) ?? null);
  const found = [...log.objects.keys()].flatMap((key) => /\/(?:manifest|seg)\/([\d-]+)\./.exec(key)?.[1] ?? []);
  const names = log.names ?? [...new Set(found)].toSorted();
  return {
    checkpoint: () => Promise.resolve(log.checkpoint),
    ranges: (after) => {
      const from = after === null ? 0 : names.indexOf(after) + 1;
      return Promise.resolve(names.slice(from, from + 2));
    },
    manifest: (range) => get(`manifest/${range}.json`),
    segment: (range) => get(`seg/${range}.parquet`),
    tile: (path) => get(`tile/${path}`),
  };
}

/** How a log that adds up is made to lie; each is asked for the range `at`, counted from 0. */
interface Forgery {
  readonly leaves?: (leaves: LeafRow[]) => LeafRow[];
  readonly by?: TestKeys;
  readonly remembered?: RememberedHead | null;
  readonly gzip?: Gzip;
  readonly segment?: (bytes: Bytes, at: number) => Bytes;
  readonly note?: (note: string, at: number, root: Bytes) => string | Promise<string>;
  readonly statement?: (statement: Statement, at: number) => Statement;
  readonly predicate?: (predicate: Record<string, unknown>, at: number) => Record<string, unknown>;
  readonly manifest?: (bundle: SignedBundle, at: number) => string;
  readonly tile?: (bytes: Bytes) => Bytes;
}

/** What is changed: a log in which [0, 300) has one full tile, [300, 316) runs with receipts, [316, 317) the rest. */
export class MutationRoom {
  readonly keys: TestKeys;
  readonly strangers: TestKeys;
  readonly base: PublishedLog;
  readonly head: RememberedHead;
  readonly leaves: readonly LeafRow[];
  readonly ends: readonly number[];
  readonly #anothers: PublishedLog;

  private constructor(keys: TestKeys, strangers: TestKeys, world: World, leaves: LeafRow[], anothers: PublishedLog) {
    this.keys = keys;
    this.strangers = strangers;
    this.leaves = leaves;
    this.ends = world.segmentRanges().map((name) => parseRange(name)!.to);
    this.head = { size: leaves.length, root_sha256: hex(rootAt(leaves, leaves.length)) };
    const published = publishedKeysOf(keys);
    this.base = { objects: world.objects, checkpoint: world.log.checkpoint(), remembered: this.head, keys: published };
    this.#anothers = anothers;
  }

  static async open(): Promise<MutationRoom> {
    const [keys, strangers] = [await newKeys(), await newKeys()];
    const world = new World(keys, 78);
    const next = seeded(77);
    const batches = [
      Array.from({ length: 300 }, (_, at) => eventAt(at * 3, next)),
      Array.from({ length: 12 }, (_, at) => eventAt(3_000 + at, next)),
      [eventAt(6_000, next)],
    ];
    for (const batch of batches) {
      world.log.append(tenantId, batch.map(eventText));
      await world.settle();
    }
    const leaves: LeafRow[] = [];
    for (const name of world.segmentRanges()) {
      const range = parseRange(name)!;
      const of = { tenantId, range, version: newestSchema };
      const read = await readLeaves(of, world.objects.get(segmentKey(tenantId, range))!, gzip);
      if (!read.ok) throw new Error(read.reason);
      leaves.push(...read.leaves.map(({ seq, salt, body }) => ({ seq, salt, body })));
    }
    const another = new World(keys, 79);
    another.log.append(
      tenantId,
      Array.from({ length: leaves.length }, (_, at) => eventText(eventAt(at * 3, next))),
    );
    await another.settle();
    const anothers = { objects: another.objects, checkpoint: another.log.checkpoint(), remembered: null };
    return new MutationRoom(keys, strangers, world, leaves, { ...anothers, keys: publishedKeysOf(keys) });
  }

  /** A whole log, signed, that is right but for what `forgery` makes wrong. */
  async forge(forgery: Forgery = {}): Promise<PublishedLog> {
    const by = forgery.by ?? this.keys;
    const leaves = forgery.leaves?.([...this.leaves]) ?? [...this.leaves];
    const more = leaves.length - this.leaves.length;
    const ends = this.ends.map((end, at) => (at === 0 ? end : end + more));
    const objects = new Map<string, Bytes>();
    const frontier = emptyFrontier();
    const hashes: Bytes[] = [];
    let previous: Range | null = null;
    let checkpoint = "";
    for (const [at, to] of ends.entries()) {
      const range: Range = { from: frontier.size, to };
      const rows = leaves.slice(range.from, to);
      for (const { salt, body } of rows) {
        const hash = hashLeaf(sha256, salt, storedBody(body));
        hashes.push(hash);
        appendLeafHash(sha256, frontier, hash);
      }
      const honest = writeSegment(
        { tenantId, range, version: newestSchema },
        rows.map(asWritten),
        forgery.gzip ?? gzip,
      );
      const segment = forgery.segment?.(honest, at) ?? honest;
      const root = rootOf(sha256, frontier);
      const origin = originOf(originPrefix, tenantId);
      const signed = await signCheckpoint(by.checkpoint, { origin, size: to, root });
      checkpoint = (await forgery.note?.(signed, at, root)) ?? signed;
      const stated = manifestStatement({
        tenantId,
        range,
        previous,
        segment: { sha256: await sha256Hex(segment), byteCount: segment.length, schemaVersion: newestSchema },
        root,
        sealedAt: "2026-04-13T18:00:00.000Z",
        firstLoggedAt: loggedAt(rows.at(0)!),
        lastLoggedAt: loggedAt(rows.at(-1)!),
        checkpoint,
      });
      const predicate = forgery.predicate?.({ ...stated.predicate }, at) ?? stated.predicate;
      const statement = forgery.statement?.({ ...stated, predicate }, at) ?? { ...stated, predicate };
      const bundle = await signStatement(by.statement, statement);
      objects.set(segmentKey(tenantId, range), segment);
      objects.set(manifestKey(tenantId, range), utf8(forgery.manifest?.(bundle, at) ?? canonicalJson(bundle)));
      previous = range;
    }
    for (let index = 0; (index + 1) * tileWidth <= hashes.length; index += 1) {
      const bytes = concat(...hashes.slice(index * tileWidth, (index + 1) * tileWidth));
      objects.set(tileKey(tenantId, { level: 0, index, width: tileWidth }), forgery.tile?.(bytes) ?? bytes);
    }
    // Without memory unless told: a liar's log is seen by what is in it, not by what was there before.
    return { objects, checkpoint, remembered: forgery.remembered ?? null, keys: this.base.keys };
  }

  range(at: number): Range {
    return { from: at === 0 ? 0 : this.ends[at - 1]!, to: this.ends[at]! };
  }

  segmentOf(at: number): string {
    return segmentKey(tenantId, this.range(at));
  }

  manifestOf(at: number): string {
    return manifestKey(tenantId, this.range(at));
  }

  /** The base log with other bytes under some keys; null takes an object away. */
  with(changes: Readonly<Record<string, Bytes | null>>, more: Partial<PublishedLog> = {}): PublishedLog {
    const objects = new Map(this.base.objects);
    for (const [key, bytes] of Object.entries(changes)) {
      if (bytes === null) objects.delete(key);
      else objects.set(key, bytes);
    }
    return { ...this.base, objects, ...more };
  }

  object(key: string): Bytes {
    return this.base.objects.get(key)!;
  }

  mutations(): Mutation[] {
    return [
      {
        name: "nothing, behind a remembered head",
        expected: { verdict: "VERIFIED", row: null, reason: "continue the 317 remembered ones" },
        change: () => this.base,
      },
      ...[null, { ...this.head, size: 0 }].map((remembered): Mutation => ({
        name: `nothing, with ${remembered === null ? "no head" : "a head of no rows"} remembered`,
        expected: { verdict: "VERIFIED-TO", row: null, reason: "no head was remembered" },
        change: () => ({ ...this.base, remembered }),
      })),
      ...this.#ofRows(),
      ...this.#ofBodies(),
      ...this.#ofColumns(),
      ...this.#ofFiles(),
      ...this.#ofManifests(),
      ...this.#ofClaims(),
      ...this.#ofCheckpoints(),
      ...this.#ofTiles(),
      ...this.#ofNames(),
      ...this.#ofMemoryAndKeys(),
    ];
  }

  /** Rows changed without a key: the file is another than the signed one. And with the key: the log is another than the remembered one. */
  #ofRows(): Mutation[] {
    const kinds: [string, (leaves: LeafRow[]) => LeafRow[]][] = [
      ["deleted", (leaves) => renumbered(leaves.filter(({ seq }) => seq !== 304))],
      ["appended in the middle", (leaves) => renumbered(leaves.toSpliced(304, 0, leaves[302]!))],
      ["swapped", (leaves) => renumbered(leaves.toSpliced(304, 2, leaves[305]!, leaves[304]!))],
      ["replaced by another run's", (leaves) => renumbered(leaves.with(304, leaves[308]!))],
      [
        "edited",
        (leaves) =>
          leaves.with(
            304,
            edited(leaves[304]!, (event) => ({ ...event, principal: null })),
          ),
      ],
      ["salted anew", (leaves) => leaves.with(304, { ...leaves[304]!, salt: new Uint8Array(16) })],
    ];
    return kinds.flatMap(([kind, leaves]): Mutation[] => [
      {
        name: `row ${kind}, in a segment and manifest of a log that adds up, signed by a stranger`,
        expected: { verdict: "TAMPERED", row: null, reason: "is not known" },
        change: async () => {
          const forged = await this.forge({ leaves, by: this.strangers });
          return { ...forged, checkpoint: null, remembered: this.head };
        },
      },
      {
        name: `row ${kind}, in a segment that nobody signed`,
        expected: { verdict: "TAMPERED", reason: "is not the one that the manifest is about" },
        change: async () => {
          const { objects } = await this.forge({ leaves });
          const [, second] = [...objects.keys()].filter((key) => key.includes("/seg/"));
          return this.with({ [this.segmentOf(1)]: objects.get(second!)! });
        },
      },
      {
        name: `row ${kind}, in a log that adds up and that its own keys signed, behind a remembered head`,
        expected: {
          verdict: kind === "deleted" ? "GAP" : "DIVERGED",
          reason: kind === "deleted" ? "are cut off" : "not the ones remembered",
        },
        change: () => this.forge({ leaves, remembered: this.head }),
      },
    ]);
  }

  /** Leaves that are hashed, and signed for, and are not what a leaf is. */
  #ofBodies(): Mutation[] {
    const row = 304;
    const body = this.leaves[row]!.body;
    const receipt = this.leaves.findIndex((leaf) => leaf.body.includes('"type":"mc.receipt.signed"'));
    const event = JSON.parse(body) as LoggedEvent;
    const stored = (lie: string): Forgery => ({
      leaves: (leaves) => leaves.with(row, spoken(leaves[row]!, body, lie)),
    });
    const named = (change: Partial<Record<keyof LoggedEvent, unknown>>): string =>
      canonicalJson({ ...event, ...change });
    const { seq: _, ...unnumbered } = event;
    const { logged_at: __, ...timeless } = event;
    const lies: [string, string, string][] = [
      ["another seq", named({ seq: 305 }), "the leaf is that of row 305"],
      ["another tenant", named({ tenant_id: "7f0c2d9e-5a53-4d2f-9a0b-2f6a1c9f0002" }), "another tenant's"],
      ["a type that is none", named({ type: "mc.nothing" }), "is no event"],
      ["an attribute too many", named({ attributes: { ...event.attributes, name: "x" } }), "is no event"],
      ["an attribute of another kind", named({ attributes: { ...event.attributes, units: "1" } }), "is no event"],
      ["a member too many", canonicalJson({ ...event, note: "x" }), "is no event"],
      ["a space", body.replace("{", "{ "), "not canonical"],
      [
        "members in another order",
        JSON.stringify(Object.fromEntries(Object.entries(event).toReversed())),
        "not canonical",
      ],
      ["attributes in another order", reordered(body, event), "not canonical"],
      ["a member twice", body.replace('"id":', '"id":"evt_other","id":'), "not canonical"],
      [
        "a member that parsers pass over",
        body.replace('{"attributes":', '{"__proto__":{},"attributes":'),
        "is no event",
      ],
      [
        "an attribute that parsers pass over",
        body.replace('{"attributes":{', '{"attributes":{"__proto__":1,'),
        "is no event",
      ],
      ["a number in another spelling", body.replace('"seq":304', '"seq":3.04e2'), "not canonical"],
      ["no JSON", `${body}x`, "is not JSON"],
      ["a list", "[]", "is not an object"],
      ["null", "null", "is not an object"],
      ["text", '"x"', "is not an object"],
      ["no seq", canonicalJson(unnumbered), "has no seq"],
      ["a negative seq", named({ seq: -304 }), "has no seq"],
      ["half a seq", named({ seq: 304.5 }), "has no seq"],
      ["a seq beyond counting", body.replace('"seq":304', '"seq":9007199254740993'), "has no seq"],
      ["a seq in quotes", named({ seq: "304" }), "has no seq"],
      ["no logged_at", canonicalJson(timeless), "has no logged_at"],
      ["a time that never was", named({ logged_at: "2026-02-30T00:00:00.000Z" }), "has no logged_at"],
    ];
    return [
      ...lies.map(([kind, lie, reason]): Mutation => ({
        name: `leaf with ${kind}`,
        expected: { verdict: "TAMPERED", row, reason },
        change: () => this.forge(stored(lie)),
      })),
      {
        name: "leaf with half of a character, escaped",
        expected: { verdict: "TAMPERED", row: receipt, reason: "not canonical" },
        change: () =>
          this.forge({
            leaves: (leaves) => {
              const leaf = leaves[receipt]!;
              const lie = leaf.body.replace('"payload":"', '"payload":"\\ud800');
              return leaves.with(receipt, spoken(leaf, leaf.body, lie));
            },
          }),
      },
      ...[15, 17, 0].map((byteCount): Mutation => ({
        name: `leaf with a salt of ${byteCount} bytes`,
        expected: { verdict: "TAMPERED", row, reason: "the salt has not 16 bytes" },
        change: () =>
          this.forge({ leaves: (leaves) => leaves.with(row, { ...leaves[row]!, salt: new Uint8Array(byteCount) }) }),
      })),
      ...[row, 300].map((seq): Mutation => ({
        name: `leaf ${seq} logged before the one ahead of it`,
        expected: { verdict: "TAMPERED", row: seq, reason: "was logged before the row ahead of it" },
        change: () =>
          this.forge({
            leaves: (leaves) =>
              leaves.with(
                seq,
                edited(leaves[seq]!, (event) => ({ ...event, logged_at: "2026-04-13T15:00:00.000Z" })),
              ),
          }),
      })),
      {
        name: "leaf whose body is not UTF-8",
        expected: { verdict: "TAMPERED", reason: "not UTF-8" },
        change: () =>
          this.forge({
            gzip: pagesChanged((page) => {
              const at = Buffer.from(page).indexOf('"schema_version":1,"seq":304');
              return at < 0 ? page : page.with(at + 1, 0xff);
            }),
          }),
      },
    ];
  }

  /** Signed segments whose leaves are right, and whose other columns say something else. */
  #ofColumns(): Mutation[] {
    const lies: Partial<Record<keyof SegmentRow, (event: LoggedEvent) => LoggedEvent>> = {
      tenant_id: (event) => ({ ...event, tenant_id: "7f0c2d9e-5a53-4d2f-9a0b-2f6a1c9f0002" }),
      seq: (event) => ({ ...event, seq: event.seq + 1 }),
      logged_at: (event) => ({ ...event, logged_at: "2026-04-13T15:00:00.000Z" }),
      occurred_at: (event) => ({ ...event, occurred_at: "2026-04-13T15:00:00.000Z" }),
      event_id: (event) => ({ ...event, id: "evt_00000000000000000000000000" }),
      type: (event) => ({ ...event, type: "mc.log.gap" }),
      source: (event) => ({ ...event, source: "disclosure" }),
      principal: (event) => ({ ...event, principal: null }),
      source_seq: (event) => ({ ...event, source_seq: 7 }),
    };
    const attribute = (name: string, value: unknown) => (event: LoggedEvent) => ({
      ...event,
      attributes: { ...event.attributes, [name]: value } as never,
    });
    const words = ["execution_id", "package", "version", "channel", "outcome", "rule", "action"] as const;
    for (const name of words) lies[name] = attribute(name, `other ${name}`);
    for (const name of ["units", "duration_ms"] as const) lies[name] = attribute(name, 987_654);
    lies.attrs = attribute("more", true);
    const names = columnsOf(newestSchema).map(({ name }) => name);
    return names
      .filter((name) => name !== "salt" && name !== "body")
      .map((name): Mutation => ({
        name: `column ${name} that is not what its leaf says, signed`,
        expected: { verdict: "TAMPERED", row: 304, reason: `row 304: the column ${name} is not what the leaf says` },
        change: () =>
          this.forge({
            leaves: (leaves) =>
              leaves.with(304, spoken(leaves[304]!, edited(leaves[304]!, lies[name]!).body, leaves[304]!.body)),
          }),
      }));
  }

  /** Files that hold the right leaves, and something else too. */
  #ofFiles(): Mutation[] {
    const notTheSigned = "is not the one that the manifest is about";
    const whole = (name: string, reason: string, segment: (bytes: Bytes) => Bytes): Mutation => ({
      name: `segment ${name}, signed`,
      expected: { verdict: "TAMPERED", row: null, reason },
      change: () => this.forge({ segment: (bytes, at) => (at === 1 ? segment(bytes) : bytes) }),
    });
    const packed = (name: string, reason: string, change: (member: Bytes) => Bytes): Mutation => ({
      name: `page ${name}, signed`,
      expected: { verdict: "TAMPERED", row: null, reason },
      change: () => this.forge({ gzip: { ...gzip, deflate: (page) => change(new Uint8Array(gzip.deflate(page))) } }),
    });
    const replaced = (from: string, to: string) => (bytes: Bytes) => {
      const buffer = Buffer.from(bytes);
      const footer = buffer.length - 8 - buffer.readUInt32LE(buffer.length - 8);
      if (buffer.indexOf(from, footer) < 0) throw new Error(`${from} is not in the footer`);
      for (let at = buffer.indexOf(from, footer); at >= 0; at = buffer.indexOf(from, at + 1)) buffer.write(to, at);
      return new Uint8Array(buffer);
    };
    const [segment, range] = [this.object(this.segmentOf(1)), this.range(1)];
    return [
      whole("whose statistics lie", "not what its rows make", replaced("mc.execution.fin", "zz.execution.fin")),
      whole("by another maker", "not what its rows make", replaced("maestro-conductor", "maestro-pretender")),
      whole("with an empty bloom filter", "not what its rows make", (bytes) => {
        const forged = new Uint8Array(bytes);
        const { bloom_filter_offset: offset, bloom_filter_length: length } = parquetMetadata(
          forged.buffer,
        ).row_groups[0]!.columns.find(({ meta_data: chunk }) => chunk?.path_in_schema[0] === "event_id")!.meta_data!;
        return forged.fill(0, Number(offset) + 20, Number(offset) + Number(length));
      }),
      whole(
        "of another tenant by its metadata",
        "another maestro.tenant_id",
        replaced(tenantId, tenantId.replace("1", "2")),
      ),
      whole("of another format by its metadata", "another maestro.format", (bytes) =>
        replaced("maestro.format", "maestro.formax")(bytes),
      ),
      whole("with another schema", "another schema", replaced("duration_ms", "duration_us")),
      whole("with something behind its end", "not readable", (bytes) => concat(bytes, new Uint8Array(3))),
      whole("with something between magic and pages", "counts do not add up", (bytes) =>
        concat(bytes.subarray(0, 4), new Uint8Array(3), bytes.subarray(4)),
      ),
      whole("cut short", "not readable", (bytes) => bytes.slice(0, -1)),
      whole("that is none", "not readable", () => utf8("PAR1 no segment at all PAR1")),
      whole("of the range before", "the segment has 300 rows, not", () => this.object(this.segmentOf(0))),
      packed("with a name in its gzip header", "not a plain gzip member", (member) => {
        const named = concat(member.subarray(0, 10), utf8("x\0"), member.subarray(10));
        return named.with(3, 8);
      }),
      packed("with a second gzip member", "something lies behind", (member) =>
        concat(member, gzip.deflate(new Uint8Array(0))),
      ),
      packed("shorter than any gzip member", "not a plain gzip member", (member) => member.slice(0, 12)),
      {
        name: "page with a byte more than its gzip member says, signed",
        expected: { verdict: "TAMPERED", row: null, reason: "another size" },
        change: () =>
          this.forge({
            gzip: {
              ...gzip,
              deflate: (page) => {
                const member = new Uint8Array(gzip.deflate(concat(page, new Uint8Array(1))));
                new DataView(member.buffer).setUint32(member.length - 4, page.length, true);
                return member;
              },
            },
          }),
      },
      packed("with a wrong checksum", "another checksum", (member) => flipped(member, 8)),
      packed("with a wrong size", "another size", (member) => flipped(member, 4)),
      {
        name: "page with a number beyond counting, signed",
        expected: { verdict: "TAMPERED", row: null, reason: "row 304 has no usable seq" },
        change: () =>
          this.forge({
            gzip: pagesChanged((page) => {
              const [forged, rows] = [new Uint8Array(page), this.range(1).to - this.range(1).from];
              const view = new DataView(forged.buffer);
              if (forged.length === rows * 8 && view.getBigInt64(4 * 8, true) === 304n)
                view.setBigInt64(4 * 8, 2n ** 60n, true);
              return forged;
            }),
          }),
      },
      {
        name: "segment whose size the manifest has wrong, signed",
        expected: { verdict: "TAMPERED", reason: notTheSigned },
        change: () =>
          this.forge({ predicate: (predicate, at) => (at === 1 ? { ...predicate, segment_bytes: 1 } : predicate) }),
      },
      {
        name: "segment whose digest the manifest has wrong, signed",
        expected: { verdict: "TAMPERED", reason: notTheSigned },
        change: () =>
          this.forge({
            statement: (statement, at) =>
              at === 1
                ? { ...statement, subject: [{ ...statement.subject[0]!, digest: { sha256: "0".repeat(64) } }] }
                : statement,
          }),
      },
      ...([0, 1, 2] as const).map((at): Mutation => ({
        name: `segment ${at} deleted`,
        expected: { verdict: "GAP", row: this.range(at).from, reason: "the segment is not there" },
        change: () => this.with({ [this.segmentOf(at)]: null }),
      })),
      ...(
        [
          ["with a byte flipped", segment.with(200, segment[200]! ^ 1)],
          ["truncated", segment.slice(0, -1)],
          ["appended to", concat(segment, new Uint8Array(1))],
          ["replaced by the one behind it", this.object(this.segmentOf(2))],
          [
            "replaced by another log's of the same tenant",
            writeSegment(
              { tenantId, range, version: newestSchema },
              renumbered(this.leaves.slice(0, range.to - range.from), range.from),
              gzip,
            ),
          ],
        ] as const
      ).map(([kind, bytes]): Mutation => ({
        name: `segment ${kind}`,
        expected: { verdict: "TAMPERED", reason: notTheSigned },
        change: () => this.with({ [this.segmentOf(1)]: bytes }),
      })),
      {
        name: "segments that changed places",
        expected: { verdict: "TAMPERED", reason: notTheSigned },
        change: () =>
          this.with({
            [this.segmentOf(1)]: this.object(this.segmentOf(2)),
            [this.segmentOf(2)]: this.object(this.segmentOf(1)),
          }),
      },
      {
        name: "segment with one row salted anew, which a full tile can name",
        expected: { verdict: "TAMPERED", row: 123, reason: notTheSigned },
        change: async () => {
          const leaves = (all: LeafRow[]): LeafRow[] => all.with(123, { ...all[123]!, salt: new Uint8Array(16) });
          const forged = await this.forge({ leaves });
          return this.with({ [this.segmentOf(0)]: forged.objects.get(this.segmentOf(0))! });
        },
      },
      {
        name: "segment with one row that contradicts itself, which needs no tile",
        expected: { verdict: "TAMPERED", row: 305, reason: notTheSigned },
        change: async () => {
          const leaves = (all: LeafRow[]): LeafRow[] =>
            all.with(305, spoken(all[305]!, all[305]!.body, all[304]!.body));
          const forged = await this.forge({ leaves });
          return this.with({ [this.segmentOf(1)]: forged.objects.get(this.segmentOf(1))! });
        },
      },
      {
        name: "segment with a column that contradicts its leaf, which needs no tile",
        expected: { verdict: "TAMPERED", row: 305, reason: notTheSigned },
        change: async () => {
          const lie = edited(this.leaves[305]!, (event) => ({ ...event, source: "disclosure" })).body;
          const leaves = (all: LeafRow[]): LeafRow[] => all.with(305, spoken(all[305]!, lie, all[305]!.body));
          const forged = await this.forge({ leaves });
          return this.with({ [this.segmentOf(1)]: forged.objects.get(this.segmentOf(1))! });
        },
      },
    ];
  }

  #ofManifests(): Mutation[] {
    const key = this.manifestOf(1);
    const text = utf8Text(this.object(key));
    const bundle = bundleIn(this.object(key));
    const envelope = bundle.dsseEnvelope;
    const [signature] = envelope.signatures;
    const other = this.strangers.statement.kid;
    const changed = (name: string, reason: string, bytes: string | Bytes): Mutation => ({
      name: `manifest ${name}`,
      expected: { verdict: "TAMPERED", row: null, reason },
      change: () => this.with({ [key]: typeof bytes === "string" ? utf8(bytes) : bytes }),
    });
    const enveloped = (change: Partial<SignedBundle["dsseEnvelope"]>): string =>
      canonicalJson({ ...bundle, dsseEnvelope: { ...envelope, ...change } });
    const keyed = (kid: string): string =>
      canonicalJson({
        ...bundle,
        verificationMaterial: { publicKey: { hint: kid } },
        dsseEnvelope: { ...envelope, signatures: [{ ...signature, keyid: kid }] },
      });
    const payload = utf8Text(base64Bytes(envelope.payload));
    const der = base64Bytes(signature!.sig);
    return [
      ...([0, 1, 2] as const).map((at): Mutation => ({
        name: `manifest ${at} deleted`,
        expected: { verdict: "GAP", row: this.range(at).from, reason: "the manifest is not there" },
        change: () => this.with({ [this.manifestOf(at)]: null }),
      })),
      ...([0, 1] as const).map((at): Mutation => ({
        name: `manifest ${at} deleted with its segment`,
        expected: { verdict: "GAP", row: this.range(at).from, reason: "are not there" },
        change: () => this.with({ [this.manifestOf(at)]: null, [this.segmentOf(at)]: null }),
      })),
      {
        name: "manifest of the newest range deleted with its segment",
        expected: { verdict: "GAP", row: this.range(2).from, reason: "are signed for and not there" },
        change: () => this.with({ [this.manifestOf(2)]: null, [this.segmentOf(2)]: null }, { remembered: null }),
      },
      changed("that is not UTF-8", "not UTF-8", this.object(key).with(5, 0xff)),
      changed("that is not JSON", "not canonical JSON", `${text}x`),
      changed("in another spelling", "not canonical JSON", ` ${text}`),
      changed("with a member twice", "not canonical JSON", text.replace("{", '{"dsseEnvelope":{},')),
      changed("truncated", "not canonical JSON", text.slice(0, -1)),
      changed("of no bytes", "not canonical JSON", ""),
      changed("with a member too many", "expected shape", canonicalJson({ ...bundle, more: 1 })),
      changed(
        "with a member that parsers pass over",
        "expected shape",
        text.replace('{"dsseEnvelope"', '{"__proto__":{},"dsseEnvelope"'),
      ),
      changed(
        "with its payload edited",
        "signature does not verify",
        enveloped({ payload: base64(utf8(payload.replace('"row_count":16', '"row_count":17'))) }),
      ),
      changed("with its payload in another base64", "canonical base64", enveloped({ payload: `${envelope.payload}=` })),
      changed(
        "with a payload beyond all bounds",
        "payload is too large",
        enveloped({ payload: "A".repeat(12_000_000) }),
      ),
      changed("with another payload type", "payload type", enveloped({ payloadType: "application/json" })),
      changed(
        "with its signature edited",
        "signature does not verify",
        enveloped({ signatures: [{ ...signature!, sig: base64(flipped(der, 1)) }] }),
      ),
      changed(
        "with another range's signature",
        "signature does not verify",
        enveloped({ signatures: bundleIn(this.object(this.manifestOf(0))).dsseEnvelope.signatures }),
      ),
      changed("with two signatures", "exactly one signature", enveloped({ signatures: [signature!, signature!] })),
      changed("without a signature", "expected shape", enveloped({ signatures: [] })),
      changed(
        "with a key id and a hint that differ",
        "different keys",
        enveloped({ signatures: [{ ...signature!, keyid: other }] }),
      ),
      changed("that names a stranger's key", "is not known", keyed(other)),
      changed("that names the checkpoint's key", "is not known", keyed(this.keys.checkpoint.kid)),
      changed("of the range before", "of another range", this.object(this.manifestOf(0))),
      {
        name: "manifests that changed places",
        expected: { verdict: "TAMPERED", reason: "of another range" },
        change: () =>
          this.with({
            [this.manifestOf(1)]: this.object(this.manifestOf(2)),
            [this.manifestOf(2)]: this.object(this.manifestOf(1)),
          }),
      },
      {
        name: "manifest signed by a stranger",
        expected: { verdict: "TAMPERED", reason: "is not known" },
        change: async () => {
          const signed = await signStatement(this.strangers.statement, statementIn(this.object(key)));
          return this.with({ [key]: utf8(canonicalJson(signed)) });
        },
      },
      {
        name: "manifest whose payload is signed and not canonical",
        expected: { verdict: "TAMPERED", reason: "the payload is not canonical JSON" },
        change: () => this.#signedPayload(key, ` ${payload}`),
      },
      {
        name: "manifest whose payload is signed and no statement",
        expected: { verdict: "TAMPERED", reason: "not an in-toto statement" },
        change: () => this.#signedPayload(key, "{}"),
      },
    ];
  }

  /** Signed by the log's key; `text` need not be a statement. */
  async #signedPayload(key: string, text: string): Promise<PublishedLog> {
    const bundle = bundleIn(this.object(key));
    const sig = await this.keys.statement.sign(preAuthEncoding(statementPayloadType, utf8(text)));
    const signatures = [{ sig: base64(sig), keyid: this.keys.statement.kid }];
    const dsseEnvelope = { ...bundle.dsseEnvelope, payload: base64(utf8(text)), signatures };
    return this.with({ [key]: utf8(canonicalJson({ ...bundle, dsseEnvelope })) });
  }

  /** Manifests that the log's own key signed, of a log that adds up but for one claim. */
  #ofClaims(): Mutation[] {
    const claims: [string, Record<string, unknown>, string][] = [
      ["from", { from: 299 }, "of another range"],
      ["to", { to: 317 }, "of another range"],
      ["row count", { row_count: 15 }, "of another range"],
      ["tree size", { tree_size: 317 }, "of different trees"],
      ["root", { root_sha256: "0".repeat(64) }, "of different trees"],
      ["checkpoint's form", { checkpoint: "no note" }, "of different trees"],
      ["tenant", { tenant_id: "7f0c2d9e-5a53-4d2f-9a0b-2f6a1c9f0002" }, "another tenant's"],
      ["schema", { schema_version: 9 }, "does not fit its schema"],
      ["members", { more: true }, "does not fit its schema"],
      ["columns", { schema_version: 1 }, "another schema"],
      ["range before", { previous: null }, "follows another range"],
      [
        "time of sealing",
        { sealed_at: "2025-12-31T23:59:59.999Z" },
        "the manifest is from before or after the time of the key",
      ],
      ["first time", { first_logged_at: "2026-04-13T15:59:59.999Z" }, "other times than its rows"],
      ["last time", { last_logged_at: "2026-04-13T19:00:00.000Z" }, "other times than its rows"],
    ];
    const stated = (name: string, reason: string, statement: (honest: Statement) => Statement): Mutation => ({
      name: `manifest with another ${name}, signed`,
      expected: { verdict: "TAMPERED", row: null, reason },
      change: () => this.forge({ statement: (honest, at) => (at === 1 ? statement(honest) : honest) }),
    });
    const [first] = [this.segmentOf(0)];
    return [
      ...claims.map(([name, change, reason]): Mutation => ({
        name: `manifest that lies about its ${name}, signed`,
        expected: { verdict: "TAMPERED", row: null, reason },
        change: () =>
          this.forge({ predicate: (predicate, at) => (at === 1 ? { ...predicate, ...change } : predicate) }),
      })),
      {
        name: "first manifest that claims a range before it, signed",
        expected: { verdict: "TAMPERED", row: null, reason: "follows another range" },
        change: () =>
          this.forge({
            predicate: (predicate, at) => (at === 0 ? { ...predicate, previous: rangeName(this.range(1)) } : predicate),
          }),
      },
      stated("segment's name", "names another segment", (honest) => ({
        ...honest,
        subject: [{ ...honest.subject[0]!, name: first }],
      })),
      stated("second subject", "about one segment", (honest) => ({
        ...honest,
        subject: [honest.subject[0]!, honest.subject[0]!],
      })),
      stated("kind", "is no manifest", (honest) => ({
        ...honest,
        predicateType: "https://maestro-conductor.dev/attestations/receipt/v1",
      })),
    ];
  }

  #ofCheckpoints(): Mutation[] {
    const origin = originOf(originPrefix, tenantId);
    const note = this.base.checkpoint!;
    const { size } = this.head;
    const root = base64Bytes(note.split("\n")[2]!);
    const sign = (by: TestKeys, claim: Partial<{ origin: string; size: number; root: Bytes }>): Promise<string> =>
      signCheckpoint(by.checkpoint, { origin, size, root, ...claim });
    const signatureLine = note.split("\n\n")[1]!;
    const served = (name: string, reason: string, checkpoint: string | (() => Promise<string>)): Mutation => ({
      name: `checkpoint ${name}`,
      expected: { verdict: "TAMPERED", reason },
      change: async () => ({
        ...this.base,
        checkpoint: typeof checkpoint === "string" ? checkpoint : await checkpoint(),
      }),
    });
    const inside = (name: string, reason: string, forged: (root: Bytes, to: number) => Promise<string>): Mutation => ({
      name: `checkpoint in a manifest ${name}`,
      expected: { verdict: "TAMPERED", row: null, reason },
      change: () =>
        this.forge({ note: async (honest, at, root) => (at === 1 ? await forged(root, this.ends[1]!) : honest) }),
    });
    const edit = (from: string | RegExp, to: string): string => note.replace(from, to);
    return [
      served("with another size", "signature does not verify", edit(`\n${size}\n`, `\n${size + 1}\n`)),
      served("with another root", "signature does not verify", edit(base64(root), base64(new Uint8Array(32)))),
      served("with an edited signature", "signature does not verify", misSigned(note)),
      served("without a signature", "not a signed note", `${note.split("\n\n")[0]}\n\n`),
      served("of nothing", "not a signed note", ""),
      served("with a fourth line", "not a signed note", edit("\n\n", "\nmore\n\n")),
      served("with a size in another spelling", "not a signed note", edit(`\n${size}\n`, `\n0${size}\n`)),
      served("with a size beyond counting", "not a signed note", edit(`\n${size}\n`, "\n9999999999999999\n")),
      served("with a root that is no hash", "not a signed note", edit(base64(root), base64(new Uint8Array(31)))),
      served("with a root that is not base64", "not a signed note", edit(base64(root), `=${base64(root).slice(1)}`)),
      served("with its signature twice", "two signatures", `${note}${signatureLine}`),
      served("with a signature that is not base64", "not base64", edit(/(— \S+ ).*\n$/u, "$1?\n")),
      served("signed by a stranger", "not signed by a known key", () => sign(this.strangers, {})),
      served("of another log", "is of the log", () => sign(this.keys, { origin: `${origin}x` })),
      served("that ends inside of a segment", "ends inside of a segment", () => sign(this.keys, { size: 305 })),
      {
        name: "checkpoint of more rows than are there",
        expected: { verdict: "GAP", row: size, reason: "are signed for and not there" },
        change: async () => ({ ...this.base, checkpoint: await sign(this.keys, { size: size + 3 }) }),
      },
      {
        name: "checkpoint of the same size with another root, signed",
        expected: { verdict: "DIVERGED", row: null, reason: "another root than their manifest" },
        change: async () => ({ ...this.base, checkpoint: await sign(this.keys, { root: new Uint8Array(32) }) }),
      },
      {
        name: "checkpoint of before, replayed, behind a remembered head",
        expected: { verdict: "GAP", row: 316, reason: "are cut off" },
        change: () => {
          const { predicate } = statementIn(this.object(this.manifestOf(1)));
          return { ...this.base, checkpoint: String(predicate["checkpoint"]) };
        },
      },
      inside("signed by a stranger", "not signed by a known key", (root, to) =>
        sign(this.strangers, { size: to, root }),
      ),
      inside("of another log", "is of the log", (root, to) =>
        sign(this.keys, { origin: `${origin}x`, size: to, root }),
      ),
      inside("of another size", "of different trees", (root) => sign(this.keys, { size: 305, root })),
      inside("with another root", "of different trees", (_, to) =>
        sign(this.keys, { size: to, root: new Uint8Array(32) }),
      ),
      {
        name: "checkpoint and manifest that agree on a root which the rows do not have, signed",
        expected: { verdict: "TAMPERED", row: null, reason: "do not lead to the signed root" },
        change: () =>
          this.forge({
            note: async (honest, at) =>
              at === 1 ? await sign(this.keys, { size: this.ends[1]!, root: new Uint8Array(32) }) : honest,
            predicate: (predicate, at) => (at === 1 ? { ...predicate, root_sha256: "0".repeat(64) } : predicate),
          }),
      },
    ];
  }

  #ofTiles(): Mutation[] {
    const key = `${tenantId}/tile/0/000`;
    const tile = this.object(key);
    const changed = (name: string, row: number, bytes: Bytes): Mutation => ({
      name: `tile ${name}`,
      expected: { verdict: "TAMPERED", row, reason: "is not that of its rows" },
      change: () => this.with({ [key]: bytes }),
    });
    const [one, two] = [tile.slice(0, 32), tile.slice(32, 64)];
    return [
      {
        name: "tile deleted",
        expected: { verdict: "GAP", row: 0, reason: "the tile 0/000 is not there" },
        change: () => this.with({ [key]: null }),
      },
      changed("with a byte flipped", 123, tile.with(123 * 32 + 5, tile[123 * 32 + 5]! ^ 1)),
      changed("truncated", 255, tile.slice(0, -1)),
      changed("appended to", 0, concat(tile, new Uint8Array(32))),
      changed("with two hashes swapped", 0, concat(two, one, tile.subarray(64))),
      changed("with a hash deleted", 7, concat(tile.subarray(0, 7 * 32), tile.subarray(8 * 32))),
      changed("of another log", 0, this.#anothers.objects.get(key)!),
      changed("of no bytes", 0, new Uint8Array(0)),
    ];
  }

  #ofNames(): Mutation[] {
    const names = this.ends.map((_, at) => rangeName(this.range(at)));
    const listed = (
      name: string,
      verdict: VerdictWord,
      row: number | null,
      reason: string,
      list: string[],
    ): Mutation => ({
      name: `names of ranges ${name}`,
      expected: { verdict, row, reason },
      change: () => ({ ...this.base, names: list }),
    });
    const moved = (to: Range): PublishedLog =>
      this.with({
        [this.manifestOf(1)]: null,
        [this.segmentOf(1)]: null,
        [manifestKey(tenantId, to)]: this.object(this.manifestOf(1)),
        [segmentKey(tenantId, to)]: this.object(this.segmentOf(1)),
      });
    return [
      listed("with one that is none", "TAMPERED", null, "is not the name of a range", [names[0]!, "1-2"]),
      listed("with one twice", "TAMPERED", 0, "repeats rows", [names[0]!, names[0]!, ...names.slice(1)]),
      listed("in another order", "GAP", 0, "are not there", names.toReversed()),
      listed("of nothing", "GAP", 0, "are signed for and not there", []),
      {
        name: "range renamed to begin earlier",
        expected: { verdict: "TAMPERED", row: 299, reason: "repeats rows" },
        change: () => moved({ from: 299, to: 316 }),
      },
      {
        name: "range renamed to begin later",
        expected: { verdict: "GAP", row: 300, reason: "are not there" },
        change: () => moved({ from: 301, to: 316 }),
      },
      {
        name: "range renamed to end later",
        expected: { verdict: "TAMPERED", row: null, reason: "of another range" },
        change: () => moved({ from: 300, to: 317 }),
      },
    ];
  }

  #ofMemoryAndKeys(): Mutation[] {
    const { keys } = this.base.keys;
    const known = (name: string, reason: string, kept: PublishedKeys["keys"]): Mutation => ({
      name: `key set ${name}`,
      expected: { verdict: "TAMPERED", reason },
      change: () => ({ ...this.base, keys: { ...this.base.keys, keys: kept } }),
    });
    const other = publishedKeysOf(this.strangers);
    return [
      {
        name: "remembered head of a longer log",
        expected: { verdict: "GAP", row: this.head.size, reason: "are cut off" },
        change: () => ({ ...this.base, remembered: { ...this.head, size: this.head.size + 1 } }),
      },
      ...[this.head.size, 300, 123, 1].map((size): Mutation => ({
        name: `remembered head of ${size} rows with another root`,
        expected: { verdict: "DIVERGED", reason: `the first ${size} rows are not the ones remembered` },
        change: () => ({ ...this.base, remembered: { size, root_sha256: "0".repeat(64) } }),
      })),
      {
        name: "anchored head of a longer log",
        expected: { verdict: "GAP", row: this.head.size, reason: "rows are anchored" },
        change: () => ({ ...this.base, witnessed: [this.head, { ...this.head, size: this.head.size + 1 }] }),
      },
      {
        name: "anchored head with another root, beside a right one",
        expected: { verdict: "DIVERGED", row: null, reason: "the first 300 rows are not the ones that are anchored" },
        change: () => ({ ...this.base, witnessed: [this.head, { size: 300, root_sha256: "0".repeat(64) }] }),
      },
      known("of a stranger", "not signed by a known key", other.keys),
      known(
        "without the checkpoints' key",
        "not signed by a known key",
        keys.filter(({ use }) => use !== "checkpoint"),
      ),
      known(
        "without the manifests' key",
        "is not known",
        keys.filter(({ use }) => use !== "manifest"),
      ),
      ...(["manifest", "checkpoint"] as const).flatMap((used) =>
        [{ not_before: "2030-01-01T00:00:00.000Z" }, { not_after: "2026-04-13T15:59:59.999Z" }].map((time) =>
          known(
            `whose key for every ${used} signed only ${Object.keys(time)[0]} ${Object.values(time)[0]}`,
            `the ${used} is from before or after the time of the key`,
            keys.map((key) => (key.use === used ? { ...key, ...time } : key)),
          ),
        ),
      ),
      known(
        "whose manifests' key is younger than they",
        "the manifest is from before or after the time of the key",
        keys.map((key) => ({ ...key, not_before: "2030-01-01T00:00:00.000Z" })),
      ),
      known(
        "that has a stranger's key under the log's kid",
        "is not known",
        keys.map((key) => (key.use === "manifest" ? { ...key, spki: base64(this.strangers.statement.spki) } : key)),
      ),
      known(
        "that has the manifests' key for another algorithm",
        "is not known",
        keys.map((key) => (key.use === "manifest" ? { ...key, algorithm: "Ed25519" as const } : key)),
      ),
    ];
  }
}

const rootAt = (leaves: readonly LeafRow[], size: number): Bytes => {
  const frontier = emptyFrontier();
  for (const { salt, body } of leaves.slice(0, size)) appendLeafHash(sha256, frontier, hashLeaf(sha256, salt, body));
  return rootOf(sha256, frontier);
};

const bundleIn = (bytes: Bytes): SignedBundle => JSON.parse(utf8Text(bytes)) as SignedBundle;

const statementIn = (bytes: Bytes): Statement =>
  inTotoStatement.parse(JSON.parse(utf8Text(base64Bytes(bundleIn(bytes).dsseEnvelope.payload))));

const loggedAt = ({ body }: LeafRow): string => (JSON.parse(honestBody(body)) as LoggedEvent).logged_at;

function edited(leaf: LeafRow, change: (event: LoggedEvent) => LoggedEvent): LeafRow {
  return { ...leaf, body: canonicalJson(change(JSON.parse(leaf.body) as LoggedEvent)) };
}

const renumbered = (leaves: readonly LeafRow[], from = 0): LeafRow[] =>
  leaves.map((leaf, at) => ({ ...edited(leaf, (event) => ({ ...event, seq: from + at })), seq: from + at }));

const reordered = (body: string, event: LoggedEvent): string =>
  body.replace(
    canonicalJson(event.attributes),
    JSON.stringify(Object.fromEntries(Object.entries(event.attributes).toReversed())),
  );

/** Columns from one body, and another one stored: kept as one text here, with a mark in between that no body holds. */
const mark = "\u0000stored\u0000";
const spoken = (leaf: LeafRow, columns: string, stored: string): LeafRow => ({
  ...leaf,
  body: columns + mark + stored,
});
/** `rowOf` takes the columns from the body and then the body itself: from its third reading on it is another. */
function asWritten({ seq, salt, body }: LeafRow): LeafRow {
  let readings = 0;
  return {
    seq,
    salt,
    get body() {
      readings += 1;
      return readings < 3 ? honestBody(body) : storedBody(body);
    },
  };
}

const pagesChanged = (change: (page: Uint8Array) => Uint8Array): Gzip => ({
  ...gzip,
  deflate: (page) => gzip.deflate(change(page)),
});

/** With a bit flipped in a byte that is so far from the end. */
const flipped = (bytes: Bytes, fromEnd: number): Bytes =>
  bytes.with(bytes.length - fromEnd, bytes[bytes.length - fromEnd]! ^ 1);

/** With the last byte of its signature flipped. */
const misSigned = (note: string): string =>
  note.replace(/(— \S+ )(\S+)\n$/u, (_, start: string, encoded: string) => {
    const bytes = base64Bytes(encoded);
    return `${start}${base64(flipped(bytes, 1))}\n`;
  });

const honestBody = (body: string): string => body.split(mark)[0]!;
const storedBody = (body: string): string => body.split(mark).at(-1)!;
