// Segments laid out for comparison are, byte for byte, those that hyparquet-writer lays out, and hashes are those of its
// bloom filters; what is laid out otherwise is not taken.

import zlib from "node:zlib";
import fc from "fast-check";
import { xxhash64 as bigintHash } from "hyparquet/src/xxhash.js";
import { BloomBuilder } from "hyparquet-writer/src/bloom.js";
import { expect, test } from "vitest";
import { eventAt, randomBytes, seeded, startTime, tenantId } from "../../test/simulation/audit-events.ts";
import { utf8 } from "../contract/bytes.ts";
import { gzipOver } from "./gzip.ts";
import { leafBody } from "./leaf.ts";
import { isSurelySegmentOf, rowOf, segmentFault, writeSegment, type SegmentIdentity } from "./segment.ts";
import { columnsOf, newestSchema, type SegmentRow, type SegmentSchemaVersion } from "./segment-schema.ts";
import type { LeafRow } from "./service.ts";
import { times } from "./segment-columns.ts";
import { bloomOf, xxhash64 } from "./xxhash.ts";
import { isDeep } from "../../test/support/sampled.ts";

const gzip = gzipOver(zlib);
const id = (prefix: string, number: number): string => `${prefix}_${String(number).padStart(26, "0")}`;

interface Shape {
  readonly count: number;
  /** Of each kind of word, how many there are; 0: the row has none. */
  readonly words: number;
  readonly payloadBytes: number;
  readonly letters: string;
}

/** Rows whose columns have as few or as many values as `shape` says. */
function leavesOf({ count, words, payloadBytes, letters }: Shape, seed: number): LeafRow[] {
  const next = seeded(seed);
  const upTo = (most: number): number => Math.floor(next() * most);
  return Array.from({ length: count }, (_, seq) => {
    const event = eventAt(seq, next);
    const receipt = {
      mediaType: "application/vnd.dev.sigstore.bundle.v0.3+json",
      verificationMaterial: { publicKey: { hint: "k" } },
      dsseEnvelope: {
        payloadType: "x",
        payload: letters.repeat(Math.ceil((next() * payloadBytes) / letters.length)),
        signatures: [{ sig: "s", keyid: "k" }],
      },
    };
    const word = upTo(words);
    const changed: object =
      payloadBytes > 0 && seq % 2 === 0
        ? {
            type: "mc.receipt.signed",
            attributes: {
              execution_id: id("exe", word),
              package: `tools/t${word}`,
              version: `1.0.${word}`,
              channel: "stable",
              outcome: "failed",
              receipt,
            },
          }
        : words === 0
          ? { principal: null, type: "mc.privacy.budget_set", attributes: { limit_units: seq, leak_units_per_hour: 1 } }
          : {
              principal: next() < 0.2 ? null : id("pri", word),
              source_seq: next() < 0.5 ? null : 1 + upTo(2 ** 48),
              type: "mc.policy.decision",
              attributes: {
                action: `a${word}`,
                rule: `r${upTo(words)}`,
                outcome: "allow",
                ...(next() < 0.5 ? {} : { units: upTo(2 ** 50), package: `p${word}` }),
                policy_sha256: "a".repeat(64),
                input_sha256: "b".repeat(64),
              },
            };
    const body = leafBody({ ...event, ...changed }, seq, startTime + Math.floor(seq / 7));
    return { seq, salt: randomBytes(next, 16), body };
  });
}

const identity = (leaves: readonly LeafRow[], version: SegmentSchemaVersion = newestSchema): SegmentIdentity => ({
  tenantId,
  range: { from: 0, to: leaves.length },
  version,
});
const rowsOf = (leaves: readonly LeafRow[]): SegmentRow[] =>
  leaves.map((leaf) => ({ ...rowOf(leaf), bodyBytes: utf8(leaf.body) }));

const shapes: [string, Shape][] = [
  ["one row", { count: 1, words: 1, payloadBytes: 0, letters: "a" }],
  ["two rows", { count: 2, words: 2, payloadBytes: 0, letters: "a" }],
  ["few words", { count: 3_000, words: 3, payloadBytes: 0, letters: "a" }],
  ["many words", { count: 3_000, words: 2_000, payloadBytes: 0, letters: "a" }],
  ["no words", { count: 600, words: 0, payloadBytes: 0, letters: "a" }],
  ["bodies of several pages", { count: 2_600, words: 900, payloadBytes: 2_000, letters: "a" }],
  ["letters beyond ASCII", { count: 300, words: 20, payloadBytes: 500, letters: "aé\u20ac😀" }],
];

test.each(shapes)("a segment with %s is surely what the library writes", (_, shape) => {
  const leaves = leavesOf(shape, shape.count);
  for (const version of [1, 2] as const) {
    const of = identity(leaves, version);
    expect(isSurelySegmentOf(of, writeSegment(of, leaves, gzip), rowsOf(leaves), gzip)).toBe(true);
  }
});

const runs = isDeep ? 150 : 15;
test("whatever the rows, it is surely so only where it is so, and mostly then", () => {
  let sure = 0;
  const shape = fc.record({
    count: fc.integer({ min: 1, max: 80 }),
    words: fc.nat(90),
    payloadBytes: fc.constantFrom(0, 10, 300),
    letters: fc.constantFrom("a", "é"),
  });
  fc.assert(
    fc.property(shape, fc.nat(), fc.constantFrom(1 as const, 2 as const), (some, seed, version) => {
      const leaves = leavesOf(some, seed);
      const of = identity(leaves, version);
      const bytes = writeSegment(of, leaves, gzip);
      sure += isSurelySegmentOf(of, bytes, rowsOf(leaves), gzip) ? 1 : 0;
      expect(segmentFault(of, bytes, rowsOf(leaves), gzip)).toBeNull();
    }),
    { numRuns: runs },
  );
  expect(sure).toBeGreaterThan(isDeep ? 140 : 11);
});

const leaves = leavesOf({ count: 120, words: 30, payloadBytes: 100, letters: "a" }, 5);
const of = identity(leaves);
const written = writeSegment(of, leaves, gzip);

test.each(columnsOf(newestSchema).map(({ name }) => name))("another value of the column %s is not taken", (name) => {
  const rows = rowsOf(leaves);
  expect(isSurelySegmentOf(of, written, rows, gzip)).toBe(true);
  for (const at of [0, 57, 119]) {
    const value = rows[at]![name];
    let other: unknown = "x";
    if (typeof value === "number") other = value + 1;
    if (name === "salt") other = new Uint8Array(16);
    if (name === "logged_at" || name === "occurred_at") other = "2026-04-13T17:00:00.000Z";
    if (name === "tenant_id") other = tenantId.replace("7", "8");
    const bodyBytes = name === "body" ? utf8(`${leaves[at]!.body} `) : rows[at]!.bodyBytes;
    // The attributes are taken from the body's bytes.
    const changed = { ...rows[at]!, [name]: other, bodyBytes: name === "attrs" ? undefined : bodyBytes };
    expect(isSurelySegmentOf(of, written, rows.with(at, changed as SegmentRow), gzip)).toBe(false);
  }
});

test("rows in another order, fewer or more of them, and any other byte are not taken", () => {
  const rows = rowsOf(leaves);
  expect(isSurelySegmentOf(of, written, rows.toReversed(), gzip)).toBe(false);
  expect(isSurelySegmentOf(of, written, rows.slice(1), gzip)).toBe(false);
  expect(isSurelySegmentOf(of, written, rows.slice(0, -1), gzip)).toBe(false);
  expect(isSurelySegmentOf(of, written, [...rows, rows[0]!], gzip)).toBe(false);
  fc.assert(
    fc.property(fc.nat(written.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
      const bytes = written.slice();
      bytes[at]! ^= change;
      const fault = segmentFault(of, bytes, rows, gzip);
      // A page may be compressed in another way.
      expect(isSurelySegmentOf(of, bytes, rows, gzip)).toBe(fault === null);
    }),
    { numRuns: isDeep ? 300 : 25 },
  );
});

test("a hash is that of hyparquet, whatever the length", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      const { high, low } = xxhash64(new DataView(bytes.buffer, bytes.byteOffset, bytes.length), bytes.length);
      expect((BigInt(high >>> 0) << 32n) | BigInt(low >>> 0)).toBe(bigintHash(bytes));
    }),
    { numRuns: isDeep ? 3_000 : 200 },
  );
});

test("a filter is that of the library, or none", () => {
  const words = fc.uniqueArray(fc.string({ unit: "binary-ascii", maxLength: 60 }), { minLength: 1, maxLength: 300 });
  fc.assert(
    fc.property(words, (texts) => {
      const builder = new BloomBuilder({ name: "x", type: "BYTE_ARRAY", converted_type: "UTF8" });
      for (const text of texts) builder.insert(text);
      expect(bloomOf(new Set(texts))).toEqual(builder.finalize());
    }),
    { numRuns: isDeep ? 100 : 12 },
  );
  expect(bloomOf(new Set())).toBeNull();
  expect(bloomOf(new Set(["é"]))).toBeNull();
  expect(bloomOf(new Set(["a".repeat(257)]))).toBeNull();
});

test("a time is what Date makes of it, whichever came before it", () => {
  const moment = fc
    .date({ min: new Date(0), max: new Date("9999-12-31T23:59:59.999Z"), noInvalidDate: true })
    .map((date) => date.toISOString());
  const near = fc.integer({ min: -90_000_000, max: 90_000_000 }).map((ms) => new Date(startTime + ms).toISOString());
  const other = fc.constantFrom(
    "2026-04-13T16:00:00Z",
    "2026-04-13T24:00:00.000Z",
    "2026-04-13T16:00:00.00xZ",
    "2026-04-13",
    "",
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(moment, near, near, other), { maxLength: 40 }), (texts) => {
      expect(times(texts)).toEqual(texts.map((text) => Date.parse(text)));
    }),
    { numRuns: 500 },
  );
});
