// Segments that hold the right leaves, and something else too (verify-mutations.ts).

import { parquetMetadata } from "hyparquet";
import { writeSegment } from "../../../shared/audit/segment.ts";
import { newestSchema } from "../../../shared/audit/segment-schema.ts";
import type { LeafRow } from "../../../shared/audit/service.ts";
import { concat, utf8, type Bytes } from "../../../shared/contract/bytes.ts";
import { gzip } from "../../../workers/audit/hashing.ts";
import { tenantId } from "../audit-events.ts";
import { edited, renumbered, spoken, pagesChanged, flipped } from "./forging.ts";
import type { Mutation, MutationRoom } from "../verify-mutations.ts";

/** Files that hold the right leaves, and something else too. */
export function fileMutations(room: MutationRoom): Mutation[] {
  const notTheSigned = "is not the one that the manifest is about";
  const whole = (name: string, reason: string, segment: (bytes: Bytes) => Bytes): Mutation => ({
    name: `segment ${name}, signed`,
    expected: { verdict: "TAMPERED", row: null, reason },
    change: () => room.forge({ segment: (bytes, at) => (at === 1 ? segment(bytes) : bytes) }),
  });
  const packed = (name: string, reason: string, change: (member: Bytes) => Bytes): Mutation => ({
    name: `page ${name}, signed`,
    expected: { verdict: "TAMPERED", row: null, reason },
    change: () => room.forge({ gzip: { ...gzip, deflate: (page) => change(new Uint8Array(gzip.deflate(page))) } }),
  });
  const replaced = (from: string, to: string) => (bytes: Bytes) => {
    const buffer = Buffer.from(bytes);
    const footer = buffer.length - 8 - buffer.readUInt32LE(buffer.length - 8);
    if (buffer.indexOf(from, footer) < 0) throw new Error(`${from} is not in the footer`);
    for (let at = buffer.indexOf(from, footer); at >= 0; at = buffer.indexOf(from, at + 1)) buffer.write(to, at);
    return new Uint8Array(buffer);
  };
  const [segment, range] = [room.object(room.segmentOf(1)), room.range(1)];
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
    whole("of the range before", "the segment has 300 rows, not", () => room.object(room.segmentOf(0))),
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
        room.forge({
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
        room.forge({
          gzip: pagesChanged((page) => {
            const [forged, rows] = [new Uint8Array(page), room.range(1).to - room.range(1).from];
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
        room.forge({ predicate: (predicate, at) => (at === 1 ? { ...predicate, segment_bytes: 1 } : predicate) }),
    },
    {
      name: "segment whose digest the manifest has wrong, signed",
      expected: { verdict: "TAMPERED", reason: notTheSigned },
      change: () =>
        room.forge({
          statement: (statement, at) =>
            at === 1
              ? { ...statement, subject: [{ ...statement.subject[0]!, digest: { sha256: "0".repeat(64) } }] }
              : statement,
        }),
    },
    ...([0, 1, 2] as const).map((at): Mutation => ({
      name: `segment ${at} deleted`,
      expected: { verdict: "GAP", row: room.range(at).from, reason: "the segment is not there" },
      change: () => room.with({ [room.segmentOf(at)]: null }),
    })),
    ...(
      [
        ["with a byte flipped", segment.with(200, segment[200]! ^ 1)],
        ["truncated", segment.slice(0, -1)],
        ["appended to", concat(segment, new Uint8Array(1))],
        ["replaced by the one behind it", room.object(room.segmentOf(2))],
        [
          "replaced by another log's of the same tenant",
          writeSegment(
            { tenantId, range, version: newestSchema },
            renumbered(room.leaves.slice(0, range.to - range.from), range.from),
            gzip,
          ),
        ],
      ] as const
    ).map(([kind, bytes]): Mutation => ({
      name: `segment ${kind}`,
      expected: { verdict: "TAMPERED", reason: notTheSigned },
      change: () => room.with({ [room.segmentOf(1)]: bytes }),
    })),
    {
      name: "segments that changed places",
      expected: { verdict: "TAMPERED", reason: notTheSigned },
      change: () =>
        room.with({
          [room.segmentOf(1)]: room.object(room.segmentOf(2)),
          [room.segmentOf(2)]: room.object(room.segmentOf(1)),
        }),
    },
    {
      name: "segment with one row salted anew, which a full tile can name",
      expected: { verdict: "TAMPERED", row: 123, reason: notTheSigned },
      change: async () => {
        const leaves = (all: LeafRow[]): LeafRow[] => all.with(123, { ...all[123]!, salt: new Uint8Array(16) });
        const forged = await room.forge({ leaves });
        return room.with({ [room.segmentOf(0)]: forged.objects.get(room.segmentOf(0))! });
      },
    },
    {
      name: "segment with one row that contradicts itself, which needs no tile",
      expected: { verdict: "TAMPERED", row: 305, reason: notTheSigned },
      change: async () => {
        const leaves = (all: LeafRow[]): LeafRow[] => all.with(305, spoken(all[305]!, all[305]!.body, all[304]!.body));
        const forged = await room.forge({ leaves });
        return room.with({ [room.segmentOf(1)]: forged.objects.get(room.segmentOf(1))! });
      },
    },
    {
      name: "segment with a column that contradicts its leaf, which needs no tile",
      expected: { verdict: "TAMPERED", row: 305, reason: notTheSigned },
      change: async () => {
        const lie = edited(room.leaves[305]!, (event) => ({ ...event, source: "disclosure" })).body;
        const leaves = (all: LeafRow[]): LeafRow[] => all.with(305, spoken(all[305]!, lie, all[305]!.body));
        const forged = await room.forge({ leaves });
        return room.with({ [room.segmentOf(1)]: forged.objects.get(room.segmentOf(1))! });
      },
    },
  ];
}
