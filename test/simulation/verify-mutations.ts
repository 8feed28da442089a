// Changes to a log that no verifier may pass over: every kind (delete, append, reorder, edit, truncate, swap, replay, sign
// again) on every artifact (row, segment, manifest, checkpoint, tile, key set, name), with the verdict that each must have.
// Many are signed with the log's own keys and add up but for the one lie, so that only the check that looks for it can see it.
// mutations/ has them by artifact. Used by shared/audit/verify-mutations.test.ts, and by verify-plants.test.ts to find out whether
// each check is needed.

import { originOf, signCheckpoint } from "../../shared/audit/checkpoint.ts";
import { hashLeaf } from "../../shared/audit/leaf.ts";
import { manifestKey, parseRange, segmentKey, tileKey, type Range } from "../../shared/audit/layout.ts";
import { manifestStatement } from "../../shared/audit/manifest.ts";
import { readLeaves, writeSegment, type Gzip } from "../../shared/audit/segment.ts";
import { newestSchema } from "../../shared/audit/segment-schema.ts";
import type { LeafRow } from "../../shared/audit/service.ts";
import { tileWidth } from "../../shared/audit/tiles.ts";
import { appendLeafHash, emptyFrontier, rootOf } from "../../shared/audit/tree.ts";
import type { LogReader, LogVerdict, RememberedHead, VerdictWord, VerifyOptions } from "../../shared/audit/verify.ts";
import { concat, hex, sha256Hex, utf8, type Bytes } from "../../shared/contract/bytes.ts";
import { canonicalJson, eventText, type SignedBundle } from "../../shared/contract/events.ts";
import type { PublishedKeys } from "../../shared/contract/http-audit.ts";
import { signStatement } from "../../shared/signing/bundle.ts";
import type { Statement } from "../../shared/signing/statement.ts";
import { gzip, sha256 } from "../../workers/audit/hashing.ts";
import { eventAt, seeded, tenantId } from "./audit-events.ts";
import { newKeys, originPrefix, publishedKeysOf, World, type TestKeys } from "./audit-world.ts";
import { rootAt, loggedAt, asWritten, storedBody } from "./mutations/forging.ts";
import { rowMutations, bodyMutations, columnMutations } from "./mutations/rows.ts";
import { fileMutations } from "./mutations/segments.ts";
import { manifestMutations, claimMutations } from "./mutations/manifests.ts";
import { checkpointMutations } from "./mutations/checkpoints.ts";
import { tileMutations, nameMutations } from "./mutations/tiles-and-names.ts";
import { memoryAndKeyMutations } from "./mutations/memory-and-keys.ts";

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
export interface Forgery {
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
  /** Another log of as many rows, by the same keys. */
  readonly anothers: PublishedLog;

  private constructor(keys: TestKeys, strangers: TestKeys, world: World, leaves: LeafRow[], anothers: PublishedLog) {
    this.keys = keys;
    this.strangers = strangers;
    this.leaves = leaves;
    this.ends = world.segmentRanges().map((name) => parseRange(name)!.to);
    this.head = { size: leaves.length, root_sha256: hex(rootAt(leaves, leaves.length)) };
    const published = publishedKeysOf(keys);
    this.base = { objects: world.objects, checkpoint: world.log.checkpoint(), remembered: this.head, keys: published };
    this.anothers = anothers;
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
      ...rowMutations(this),
      ...bodyMutations(this),
      ...columnMutations(this),
      ...fileMutations(this),
      ...manifestMutations(this),
      ...claimMutations(this),
      ...checkpointMutations(this),
      ...tileMutations(this),
      ...nameMutations(this),
      ...memoryAndKeyMutations(this),
    ];
  }
}
