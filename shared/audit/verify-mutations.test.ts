// The verifier against every kind of change to every kind of artifact (test/simulation/verify-mutations.ts), against random
// ones, and against garbage. verify-plants.test.ts shows that each check is needed for it.

import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import {
  MutationRoom,
  outcomeOf,
  optionsOf,
  readerOf,
  type PublishedLog,
} from "../../test/simulation/verify-mutations.ts";
import { isDeep, sampled } from "../../test/support/sampled.ts";
import { gzip, sha256 } from "../../workers/audit/hashing.ts";
import { parquetMetadata } from "hyparquet";
import { concat, hex, utf8, type Bytes } from "../contract/bytes.ts";
import { storedPages } from "./segment-pages.ts";
import { verifyLog, type LogVerdict } from "./verify.ts";

let room: MutationRoom;
beforeAll(async () => {
  room = await MutationRoom.open();
});

const verify = (log: PublishedLog): Promise<LogVerdict> =>
  verifyLog(readerOf(log), { ...optionsOf(log), sha256, gzip });

/** Other bytes than `signed` that every reader inflates to the same pages, and that are the same elsewhere. */
function isSameButForCompression(bytes: Bytes, signed: Bytes): boolean {
  const chunks = parquetMetadata(signed.buffer).row_groups.flatMap(({ columns }) =>
    columns.map(({ meta_data: chunk }) => chunk!),
  );
  const end = Math.max(
    ...chunks.map((chunk) =>
      Number((chunk.dictionary_page_offset ?? chunk.data_page_offset) + chunk.total_compressed_size),
    ),
  );
  const read = (file: Bytes): string => {
    const rest = new Uint8Array(file);
    const pages: string[] = [];
    for (const page of storedPages(file)) {
      const start = page.byteOffset - file.byteOffset;
      rest.fill(0, start, start + page.length);
      pages.push(
        hex(gzip.inflate(page, new DataView(page.buffer, page.byteOffset + page.length - 4).getUint32(0, true))),
      );
      if (start + page.length >= end) break;
    }
    return [...pages, hex(rest)].join("\n");
  };
  try {
    return bytes.some((byte, at) => byte !== signed[at]) && read(bytes) === read(signed);
  } catch {
    return false; // it does not inflate any more
  }
}

describe("no change to a log is passed over", () => {
  test("and without one it is verified: as the product wrote it, and as it is forged here", async () => {
    expect(await verify(room.base)).toMatchObject({ verdict: "VERIFIED", head: room.head });
    expect(await verify({ ...(await room.forge()), remembered: room.head })).toMatchObject({ verdict: "VERIFIED" });
  });

  test("each kind of change to each kind of artifact has its verdict, and names the first bad row where one can be named", async () => {
    const wrong: unknown[] = [];
    for (const mutation of sampled(room.mutations(), 60)) {
      const outcome = outcomeOf(mutation, await verify(await mutation.change()));
      if (!outcome.isExpected) wrong.push([mutation.name, mutation.expected, outcome.found]);
    }
    expect(wrong).toEqual([]);
  });

  /** Everything that the verifier reads, by key; the checkpoint too. */
  const artifacts = (): [string, Bytes][] => [...room.base.objects, ["checkpoint", utf8(room.base.checkpoint!)]];
  const replaced = (key: string, bytes: Bytes): PublishedLog =>
    key === "checkpoint" ? { ...room.base, checkpoint: new TextDecoder().decode(bytes) } : room.with({ [key]: bytes });
  const verdicts = ["GAP", "TAMPERED", "DIVERGED"];
  const runs = isDeep ? 2_000 : 6;

  test("no flipped bit, wherever it lies in segments, manifests, tiles and checkpoint", async () => {
    const place = fc.tuple(fc.nat(), fc.nat(), fc.nat(7));
    await fc.assert(
      fc.asyncProperty(place, async ([which, where, bit]) => {
        const all = artifacts();
        const [key, bytes] = all[which % all.length]!;
        const at = where % bytes.length;
        const { verdict } = await verify(replaced(key, bytes.with(at, bytes[at]! ^ (1 << bit))));
        expect(verdicts, `bit ${bit} of byte ${at} of ${key}`).toContain(verdict);
      }),
      { numRuns: runs },
    );
  });

  test("no garbage, no piece, and no two pieces put together; it ends in a verdict, and soon", async () => {
    const garbage = fc.uint8Array({ maxLength: 3_000 });
    await fc.assert(
      fc.asyncProperty(fc.nat(), fc.nat(), fc.nat(), garbage, fc.nat(3), async (which, other, where, random, kind) => {
        const all = artifacts();
        const [key, bytes] = all[which % all.length]!;
        const [, others] = all[other % all.length]!;
        const at = where % bytes.length;
        const made = [
          random,
          bytes.slice(0, at),
          concat(bytes.subarray(0, at), random, bytes.subarray(at + random.length)),
          concat(bytes.subarray(0, at), others.subarray(where % others.length)),
        ][kind]!;
        const same = made.length === bytes.length && made.every((byte, at) => byte === bytes[at]);
        const started = performance.now();
        const { verdict } = await verify(replaced(key, new Uint8Array(made)));
        expect([key, same || verdicts.includes(verdict)]).toEqual([key, true]);
        expect(performance.now() - started).toBeLessThan(10_000);
      }),
      { numRuns: runs },
    );
  });

  test("no garbage that the log's own keys signed as a segment", async () => {
    const change = fc.tuple(fc.nat(), fc.uint8Array({ minLength: 1, maxLength: 40 }), fc.boolean());
    await fc.assert(
      fc.asyncProperty(change, async ([where, random, isWhole]) => {
        let isSame = false;
        const log = await room.forge({
          segment: (bytes, at) => {
            if (at !== 1) return bytes;
            if (isWhole) return new Uint8Array(random);
            const start = where % bytes.length;
            const spliced = concat(bytes.subarray(0, start), random, bytes.subarray(start + random.length));
            isSame = isSameButForCompression(spliced, bytes);
            return spliced.every((byte, at) => byte === bytes[at]) ? concat(bytes, new Uint8Array(1)) : spliced;
          },
        });
        const started = performance.now();
        const { verdict } = await verify(log);
        // How a page was compressed is the log's own affair (RFC 1952's time and system, DEFLATE's choices), where it signs it.
        expect(verdict).toBe(isSame ? "VERIFIED-TO" : "TAMPERED");
        expect(performance.now() - started).toBeLessThan(10_000);
      }),
      { numRuns: isDeep ? 1_000 : 3 },
    );
  });
});
