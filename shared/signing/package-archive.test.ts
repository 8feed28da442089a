// Packages as hostile bytes, as honest ones, and as bytes that were changed on the way.

import { createHash, randomBytes } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import { createInflateRaw, crc32, gunzipSync, gzipSync } from "node:zlib";
import fc from "fast-check";
import { packTar } from "modern-tar";
import { describe, expect, test } from "vitest";
import { concat, utf8 } from "../contract/bytes.ts";
import { gzipOf, hostileArchives, packageParts, zeroBomb } from "../../test/support/hostile-archives.ts";
import { manifestOf } from "../../test/support/publisher.ts";
import { isDeep, sampledPlaces } from "../../test/support/sampled.ts";
import { gnuMagic, paxPart, paxRecord, sealHeader, tarEnd, tarOf, type TarPart } from "../../test/support/tar-bytes.ts";
import { nameRefusal } from "./entry-names.ts";
import { walkPackage, type ArchiveTools, type WalkedPackage, type WalkOptions } from "./package-archive.ts";

const numRuns = isDeep ? 20_000 : 30;

const tools: ArchiveTools = { zlib: { createInflateRaw, crc32 }, newHasher: () => createHash("sha256") };
const manifest = manifestOf("archive/tested");
const good = packageParts(manifest);
const sha256 = (body: string | Uint8Array): string => createHash("sha256").update(body).digest("hex");

async function* inChunks(bytes: Uint8Array, chunkBytes: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += chunkBytes) yield bytes.subarray(at, at + chunkBytes);
}
const walk = (bytes: Uint8Array, options: WalkOptions = {}, chunkBytes = 64 * 1024): Promise<WalkedPackage> =>
  walkPackage(inChunks(bytes, chunkBytes), tools, options);
const pathsOf = (walked: WalkedPackage): string[] =>
  walked.ok ? walked.files.map(({ path }) => path) : [`refused: ${walked.reason}`];
async function sizeOf(pieces: AsyncIterable<Uint8Array>): Promise<number> {
  let bytes = 0;
  for await (const piece of pieces) bytes += piece.length;
  return bytes;
}

describe("an archive is refused, in chunks of any size, with", () => {
  test.each(hostileArchives(manifest))("$what", async ({ archive, reason }) => {
    const whole = await walk(archive, {}, archive.length);
    expect(whole).toEqual({ ok: false, reason: expect.stringContaining(reason) });
    expect(await walk(archive, {}, 37)).toEqual(whole);
    expect(await walk(archive, { take: async (_, pieces) => void (await sizeOf(pieces)) })).toEqual(whole);
  });

  test("a maestro.json that is not the one that was signed", async () => {
    const signed = { ...manifest, privacy_units: 7 };
    expect(await walk(gzipOf(tarOf(...good)), { signed })).toEqual({
      ok: false,
      reason: "the maestro.json inside is not the manifest that was signed",
    });
    expect((await walk(gzipOf(tarOf(...good)), { signed: structuredClone(manifest) })).ok).toBe(true);
  });

  test("more bytes than its manifest, or the caller, allows, maestro.json counted", async () => {
    const limits = { ...manifest.limits, unpacked_bytes: 1 };
    expect(await walk(gzipOf(tarOf(...packageParts({ ...manifest, limits }))))).toMatchObject({
      reason: "its files have more than the 1 bytes that its manifest declares",
    });
    const alone = JSON.stringify({ ...manifest, entry_point: "maestro.json", limits });
    expect((await walk(gzipOf(tarOf({ name: "maestro.json", body: alone })))).ok).toBe(false);
    const bytes = good.reduce((sum, { body }) => sum + utf8(String(body)).length, 0);
    expect(await walk(gzipOf(tarOf(...good)), { unpackedBytesMax: bytes })).toMatchObject({ unpacked_bytes: bytes });
    expect((await walk(gzipOf(tarOf(...good)), { unpackedBytesMax: bytes - 1 })).ok).toBe(false);
  });

  test("more than 64 MiB", async () => {
    const big = { ...manifest, limits: { ...manifest.limits, unpacked_bytes: 256 * 1024 * 1024 } };
    const tar = tarOf(...packageParts(big), { name: "big", body: new Uint8Array(65 * 1024 * 1024) });
    expect(await walk(new Uint8Array(gzipSync(tar, { level: 0 })))).toEqual({
      ok: false,
      reason: `it has more than ${64 * 1024 * 1024} bytes`,
    });
    expect((await walk(new Uint8Array(gzipSync(tar, { level: 1 })))).ok).toBe(true);
  });

  test("its end cut off, wherever", async () => {
    const archive = gzipOf(tarOf(...good, { name: "lib/a", body: randomBytes(700) }));
    expect((await walk(archive)).ok).toBe(true);
    for (const end of sampledPlaces(archive.length, 8)) {
      const walked = await walk(archive.subarray(0, end), {}, 200);
      expect(walked, `cut at ${end}`).toMatchObject({ ok: false });
    }
  });

  test("its tar cut off, wherever", async () => {
    const tar = tarOf(...good, { name: "lib/a", body: randomBytes(700) });
    for (const end of sampledPlaces(tar.length, 61)) {
      const walked = await walk(new Uint8Array(gzipSync(tar.subarray(0, end), { level: 1 })));
      expect(walked, `cut at ${end}`).toMatchObject({ ok: false });
    }
  });
});

describe("an archive is accepted", () => {
  test("with its files in byte order, each with its size and digest, whatever the order inside", async () => {
    const body = randomBytes(70_000);
    const parts: TarPart[] = [
      ...good,
      { name: "lib/", flag: "5" },
      { name: "lib/z", body },
      { name: "lib.txt", body: "" },
      { name: "lib/Z2", body: "x".repeat(512), flag: "\0" },
      { name: "B", body: "b" },
    ];
    const walked = await walk(gzipOf(tarOf(...parts)));
    const bodies = new Map<string, string | Uint8Array>([
      ["B", "b"],
      ["lib.txt", ""],
      ["lib/Z2", "x".repeat(512)],
      ["lib/z", body],
      ["maestro.json", JSON.stringify(manifest)],
      ["main.mjs", "export {};"],
    ]);
    const files = [...bodies].map(([path, content]) => ({
      path,
      bytes: Buffer.byteLength(content),
      sha256: sha256(content),
    }));
    expect(walked).toEqual({
      ok: true,
      manifest,
      files: files.toSorted((left, right) => Buffer.compare(Buffer.from(left.path), Buffer.from(right.path))),
      unpacked_bytes: files.reduce((sum, { bytes }) => sum + bytes, 0),
    });
  });

  test("with the headers that common tools write: PAX times and paths, ustar prefixes, GNU's magic and block size", async () => {
    const long = `lib/${"n".repeat(150)}`;
    const parts: TarPart[] = [
      paxPart(paxRecord("mtime", "1700000000.25"), paxRecord("comment", "as pax writes it")),
      ...good,
      paxPart(paxRecord("atime", "1"), paxRecord("path", long), paxRecord("ctime", "2")),
      { name: long.slice(0, 100), body: "long" },
      paxPart(paxRecord("path", "folder/")),
      { name: "x", flag: "5" },
      { name: "n".repeat(100), prefix: "p".repeat(154), body: "all of both fields" },
      { name: "gnu", magic: gnuMagic, prefix: "not a prefix there", body: "g" },
    ];
    const padded = concat(tarOf(...parts), new Uint8Array(10 * 1024));
    expect(pathsOf(await walk(gzipOf(padded)))).toEqual(
      ["gnu", long, "maestro.json", "main.mjs", `${"p".repeat(154)}/${"n".repeat(100)}`].toSorted(),
    );
  });

  test("as modern-tar writes it, and its bytes are taken as they are inside", async () => {
    const body = randomBytes(200_000);
    const tar = await packTar([
      { header: { name: "maestro.json", size: utf8(JSON.stringify(manifest)).length }, body: JSON.stringify(manifest) },
      { header: { name: "main.mjs", size: 0 } },
      { header: { name: `${"d".repeat(120)}/`, size: 0, type: "directory" } },
      { header: { name: `${"d".repeat(120)}/f`, size: body.length }, body },
    ]);
    const taken = new Map<string, Buffer>();
    const take = async (path: string, pieces: AsyncIterable<Uint8Array>): Promise<void> => {
      const parts: Uint8Array[] = [];
      for await (const piece of pieces) parts.push(piece);
      taken.set(path, Buffer.concat(parts));
    };
    const walked = await walk(gzipOf(tar), { take });
    expect(pathsOf(walked)).toEqual([...taken.keys()].toSorted());
    expect(taken.get(`${"d".repeat(120)}/f`)?.equals(body)).toBe(true);
    expect(taken.get("maestro.json")?.toString()).toBe(JSON.stringify(manifest));
    expect(await walk(gzipOf(tar))).toEqual(walked);
  });
});

describe("a walk holds little and stops early", () => {
  test("the bomb that it is tried with is whole: it unpacks to its zeros, and its checksum is right", () => {
    const tar = gunzipSync(zeroBomb(good, 16));
    expect(tar.length).toBe(16 * 1024 * 1024 + tarOf(...good).length - tarEnd.length);
  });

  test("a bomb is left after the bytes that its manifest declares and the overhead", async () => {
    const bomb = zeroBomb(good, 1024);
    let pulled = 0;
    let inflated = 0;
    const source = async function* (): AsyncGenerator<Uint8Array> {
      for await (const chunk of inChunks(bomb, 4096)) {
        pulled += chunk.length;
        yield chunk;
      }
    };
    const counting: ArchiveTools = {
      ...tools,
      zlib: {
        createInflateRaw,
        crc32(bytes, previous) {
          inflated += bytes.length;
          return crc32(bytes, previous);
        },
      },
    };
    expect(await walkPackage(source(), counting)).toEqual({ ok: false, reason: expect.stringContaining("far more") });
    // 17 MiB of zeros are 17 KiB deflated; a piece and a stream's buffer on top.
    expect(inflated).toBeLessThan(18 * 1024 * 1024);
    expect(pulled).toBeLessThan(64 * 1024);
    expect(bomb.length).toBeGreaterThan(1_000_000);
  });

  test("a taker that waits makes the source wait", async () => {
    const big = { ...manifest, limits: { ...manifest.limits, unpacked_bytes: 32 * 1024 * 1024 } };
    const body = randomBytes(16 * 1024 * 1024);
    const archive = new Uint8Array(gzipSync(tarOf(...packageParts(big), { name: "big", body }), { level: 1 }));
    let pulled = 0;
    const source = async function* (): AsyncGenerator<Uint8Array> {
      for await (const chunk of inChunks(archive, 16 * 1024)) {
        pulled += chunk.length;
        yield chunk;
      }
    };
    const gate = Promise.withResolvers<void>();
    const reached = Promise.withResolvers<void>();
    const walking = walkPackage(source(), tools, {
      async take(path, pieces) {
        if (path === "big") {
          reached.resolve();
          await gate.promise;
        }
        await sizeOf(pieces);
      },
    });
    await reached.promise;
    for (let turn = 0; turn < 200; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    expect(pulled).toBeLessThan(1024 * 1024);
    gate.resolve();
    expect(await walking).toMatchObject({ ok: true });
    expect(pulled).toBe(archive.length);
  });

  test("a refusal is answered while the source stalls, and closes it when it moves again", async () => {
    const stalled = Promise.withResolvers<void>();
    const closed = Promise.withResolvers<void>();
    const source = async function* (): AsyncGenerator<Uint8Array> {
      try {
        yield gzipSync(concat(tarOf({ name: "evil" }), randomBytes(200_000)), { level: 0 }).subarray(0, 100_000);
        await stalled.promise;
        for (;;) yield new Uint8Array(1000);
      } finally {
        closed.resolve();
      }
    };
    expect(await walkPackage(source(), tools)).toMatchObject({ ok: false });
    stalled.resolve();
    await closed.promise;
  });

  test("what the source or the taker fails with is thrown as it is, not told as a refusal", async () => {
    const archive = gzipOf(tarOf(...good));
    const failure = new Error("the line was cut");
    for (const sentBytes of [0, 5, 100, archive.length - 4, archive.length]) {
      const source = async function* (): AsyncGenerator<Uint8Array> {
        yield archive.subarray(0, sentBytes);
        throw failure;
      };
      await expect(walkPackage(source(), tools)).rejects.toBe(failure);
    }
    for (const failing of ["maestro.json", "main.mjs"]) {
      const take = async (path: string): Promise<void> => {
        if (path === failing) throw failure;
      };
      await expect(walk(archive, { take })).rejects.toBe(failure);
    }
  });

  test("a taker that leaves a file before its end is a mistake of ours, not a digest of half a file", async () => {
    const archive = gzipOf(tarOf(...good, { name: "big", body: randomBytes(300_000) }));
    const take = async (_: string, pieces: AsyncIterable<Uint8Array>): Promise<void> => {
      for await (const piece of pieces) if (piece.length > 0) return;
    };
    await expect(walk(archive, { take })).rejects.toThrow("left before its end: big");
  });
});

describe("for any package", () => {
  const segment = fc.stringMatching(/^[a-z0-9_@()[\]-][a-z0-9_@+,=~. ()[\]-]{0,28}[a-z0-9_-]$/);
  // Folders begin with "d", files with "f", so that no file is a folder elsewhere.
  const path = fc
    .tuple(fc.array(segment, { maxLength: 3 }), segment)
    .map(([folders, file]) => [...folders.map((name) => `d${name}`), `f${file}`].join("/"));
  const files = fc.uniqueArray(fc.tuple(path, fc.uint8Array({ maxLength: 1_500 })), {
    maxLength: 8,
    selector: ([name]) => name,
  });
  const tarOfFiles = (list: [string, Uint8Array][], asPax: boolean): Uint8Array =>
    tarOf(
      ...good,
      ...list.flatMap(([name, body]) =>
        asPax || name.length > 100 ? [paxPart(paxRecord("path", name)), { name: "x", body }] : [{ name, body }],
      ),
    );

  test("what was packed is what is read, in chunks of any size", async () => {
    const property = fc.asyncProperty(
      files,
      fc.boolean(),
      fc.integer({ min: 1, max: 5_000 }),
      async (list, asPax, chunkBytes) => {
        const walked = await walk(gzipOf(tarOfFiles(list, asPax)), {}, chunkBytes);
        const expected = [
          ...list,
          ...good.map(({ name, body }) => [name, utf8(String(body))] as [string, Uint8Array]),
        ].map(([name, body]) => ({ path: name, bytes: body.length, sha256: sha256(body) }));
        expect(walked).toMatchObject({ ok: true, files: expected.toSorted((a, b) => (a.path < b.path ? -1 : 1)) });
      },
    );
    await fc.assert(property, { numRuns: Math.min(numRuns, 2_000) });
  });

  test("a changed byte is noticed, or changes nothing", async () => {
    const property = fc.asyncProperty(files, fc.nat(), fc.integer({ min: 1, max: 255 }), async (list, at, change) => {
      const archive = gzipOf(tarOfFiles(list, false));
      const before = await walk(archive);
      archive[at % archive.length] = archive[at % archive.length]! ^ change;
      const after = await walk(archive, {}, 1000);
      return !after.ok || isDeepStrictEqual(after, before);
    });
    await expect(fc.assert(property, { numRuns })).resolves.toBeUndefined();
  });

  test("a changed byte of a header, though the checksum of the gzip is right, is noticed or changes nothing", async () => {
    const property = fc.asyncProperty(
      files,
      fc.nat({ max: 511 }),
      fc.integer({ min: 1, max: 255 }),
      async (list, at, change) => {
        const tar = tarOfFiles(list, false);
        const before = await walk(gzipOf(tar));
        tar[1024 + at] = tar[1024 + at]! ^ change;
        const after = await walk(gzipOf(tar));
        return !after.ok || isDeepStrictEqual(after, before);
      },
    );
    await expect(fc.assert(property, { numRuns })).resolves.toBeUndefined();
  });

  test("headers of any bytes, with right checksums, are refused or give files that may be unpacked", async () => {
    const change = fc.tuple(fc.nat({ max: 511 }), fc.nat({ max: 255 }));
    const property = fc.asyncProperty(
      files,
      fc.array(change, { minLength: 1, maxLength: 4 }),
      async (list, changes) => {
        const tar = tarOfFiles(list, false);
        for (const [at, byte] of changes) tar[1024 + at] = byte;
        sealHeader(tar.subarray(1024, 1536));
        const walked = await walk(gzipOf(tar));
        if (!walked.ok) return;
        for (const file of walked.files) expect(nameRefusal(file.path)).toBeNull();
        expect(new Set(walked.files.map((file) => file.path.toLowerCase())).size).toBe(walked.files.length);
        expect(walked.unpacked_bytes).toBeLessThanOrEqual(manifest.limits.unpacked_bytes);
      },
    );
    await expect(fc.assert(property, { numRuns })).resolves.toBeUndefined();
  });
});
