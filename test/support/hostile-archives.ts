// Archives that no package may be, each with what is said of it: for the reader's own tests, for the command line and for
// uploads over HTTP, which must all refuse the same ones.

import { crc32, constants, deflateRawSync, gzipSync } from "node:zlib";
import { concat, utf8, type Bytes } from "../../shared/contract/bytes.ts";
import type { PackageManifest } from "../../shared/contract/http-market.ts";
import { gnuMagic, paxPart, paxRecord, tarEnd, tarOf, tarPart, type TarPart } from "./tar-bytes.ts";

export interface HostileArchive {
  readonly what: string;
  readonly archive: Bytes;
  /** Part of the reason. */
  readonly reason: string;
}

export const gzipOf = (tar: Uint8Array): Bytes => new Uint8Array(gzipSync(tar));

/** `maestro.json` and the entry point, as every package begins. */
export const packageParts = (manifest: unknown): TarPart[] => [
  { name: "maestro.json", body: JSON.stringify(manifest) },
  { name: "main.mjs", body: "export {};" },
];

const mebibyte = 1024 * 1024;

/**
 * The CRC-32 of what has `checksum` and of so many zero bytes behind it. A zero bit is a linear map of the register, and so are
 * two, four and so on: a gigabyte is a few multiplications. https://github.com/madler/zlib (crc32_combine)
 */
function crc32BeforeZeros(checksum: number, byteCount: number): number {
  const apply = (map: readonly number[], register: number): number =>
    map.reduce((sum, row, bit) => ((register >>> bit) & 1 ? sum ^ row : sum), 0) >>> 0;
  let map: readonly number[] = [0xedb8_8320, ...Array.from({ length: 31 }, (_, bit) => 2 ** bit)];
  let register = ~checksum >>> 0;
  for (let bits = byteCount * 8; bits > 0; bits = Math.floor(bits / 2)) {
    if (bits % 2 === 1) register = apply(map, register);
    const once = map;
    map = once.map((row) => apply(once, row));
  }
  return ~register >>> 0;
}

/**
 * A whole gzip member of the tar that `parts` begin and `mebibytes` (a multiple of 16) of zeros end. It is put together
 * from one deflated stretch of zeros, so that it costs its maker next to nothing.
 */
export function zeroBomb(parts: readonly TarPart[], mebibytes: number): Bytes {
  const zeros = new Uint8Array(16 * mebibyte);
  const stretches = mebibytes / 16;
  const flushed = { finishFlush: constants.Z_FULL_FLUSH, level: 9 };
  const start = concat(...parts.map(tarPart));
  const stretch = deflateRawSync(zeros, flushed);
  const checksum = crc32BeforeZeros(crc32(start), stretches * zeros.length);
  const trailer = new DataView(new ArrayBuffer(8));
  trailer.setUint32(0, checksum, true);
  trailer.setUint32(4, (start.length + stretches * zeros.length) % 2 ** 32, true);
  return concat(
    Uint8Array.of(0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255),
    deflateRawSync(start, flushed),
    ...Array.from({ length: stretches }, () => stretch),
    // A last block, empty.
    Uint8Array.of(3, 0),
    new Uint8Array(trailer.buffer),
  );
}

/** All of them begin with `manifest`, so that it is the archive alone for which they are refused. */
export function hostileArchives(manifest: PackageManifest): HostileArchive[] {
  const good = packageParts(manifest);
  const goodTar = tarOf(...good);
  const goodGzip = gzipOf(goodTar);
  const declared = manifest.limits.unpacked_bytes;
  const after = (...parts: readonly TarPart[]): Bytes => gzipOf(tarOf(...good, ...parts));
  const pax = (...records: readonly string[]): Bytes => after(paxPart(...records), { name: "a", body: "x" });
  const manifestOnly = (body: string | Uint8Array): Bytes => gzipOf(tarOf({ name: "maestro.json", body }, good[1]!));
  const list: [what: string, reason: string, archive: Bytes][] = [];
  const add = (what: string, reason: string, archive: Bytes): void => void list.push([what, reason, archive]);

  const names: [name: string, reason: string][] = [
    ["../out.mjs", "dot segments"],
    ["a/../../out.mjs", "dot segments"],
    ["./main.mjs", "dot segments"],
    ["a//b", "dot segments"],
    ["a/", "dot segments"],
    ["/etc/cron.d/x", "absolute or foreign"],
    ["C:/x", "absolute or foreign"],
    ["a\\..\\b", "absolute or foreign"],
    ["a/b\u0001", "characters other than"],
    ["a\nb", "characters other than"],
    ["con:stream", "characters other than"],
    ["caf\u00e9", "characters other than"],
    ["cafe\u0301", "characters other than"],
    ["dot.", "ends with a dot"],
    ["space ", "ends with a space"],
    [" space", "begins or ends with a space"],
    ["", "without a name"],
  ];
  for (const [name, reason] of names) add(`the name ${JSON.stringify(name)}`, reason, after({ name }));
  add("a name longer than 255", "longer than 255", after({ name: "n".repeat(100), prefix: "p".repeat(155) }));
  add("a name that is not UTF-8", "not UTF-8", after({ name: "x", bend: (header) => (header[0] = 0xff) }));
  add("the same name twice", "the same name twice", after({ name: "main.mjs" }));
  add("a second maestro.json", "the same name twice", after(good[0]!));
  add("names that differ by case", "differ only by case", after({ name: "MAIN.mjs" }));
  add("folders that differ by case", "differ only by case", after({ name: "lib/a" }, { name: "LIB/b" }));
  add("a file that is a folder later", "a file and a folder", after({ name: "a" }, { name: "a/b" }));
  add("a folder that is a file later", "a file and a folder", after({ name: "a/b" }, { name: "a" }));
  add("a folder twice", "the same name twice", after({ name: "a/", flag: "5" }, { name: "a", flag: "5" }));

  const kinds: [flag: string, reason: string][] = [
    ["1", "holds a link"],
    ["2", "holds a symlink"],
    ["3", "holds a character-device"],
    ["4", "holds a block-device"],
    ["6", "holds a fifo"],
    ["7", "holds a contiguous file"],
    ["K", "holds a GNU long link name"],
    ["L", "holds a GNU long name"],
    ["M", "holds a file of several volumes"],
    ["S", "holds a sparse file"],
    ["Z", "holds a strange entry"],
    ["g", "holds a global PAX header"],
  ];
  for (const [flag, reason] of kinds)
    add(`an entry of type ${flag}`, reason, after({ name: "special", flag, linkname: "/etc/passwd" }));
  add(
    "a GNU long name that leads out",
    "GNU long name",
    after({ name: "././@LongLink", flag: "L", body: "../out\0", magic: gnuMagic }, { name: "a", magic: gnuMagic }),
  );
  add(
    "a global header that renames what follows",
    "global PAX header",
    after({ name: "g", flag: "g", body: paxRecord("path", "main.mjs") }, { name: "a" }),
  );
  add(
    "a sparse file in PAX form",
    "GNU.sparse.major",
    pax(paxRecord("GNU.sparse.major", "1"), paxRecord("GNU.sparse.minor", "0")),
  );

  add("a PAX header that renames a file out", "dot segments", pax(paxRecord("path", "../a")));
  add("a PAX header with a NUL in a name", "a name with a NUL", pax(paxRecord("path", "a\0.txt")));
  add("a PAX header with an empty name", "without a name", pax(paxRecord("path", "")));
  add("a PAX header that renames onto a file", "the same name twice", pax(paxRecord("path", "main.mjs")));
  add("a PAX header with a size", "may not have", pax(paxRecord("size", "0")));
  add("a PAX header with a link's path", "may not have", pax(paxRecord("linkpath", "/etc/passwd")));
  add("a PAX header with another character set", "may not have", pax(paxRecord("hdrcharset", "BINARY")));
  add("a PAX header of an unknown maker", "may not have", pax(paxRecord("VENDOR.x", "1")));
  add("a PAX record without a key", "may not have", pax("6 abc\n"));
  add("a PAX header with two names", "path twice", pax(paxRecord("path", "b"), paxRecord("path", "c")));
  add("a PAX record that is longer than it says", "PAX record", pax("9 path=../a\n"));
  add("a PAX record that is shorter than it says", "PAX record", pax("99 path=a\n"));
  add("a PAX record without its last newline", "PAX record", pax("9 path=ab"));
  add("a PAX record with a length of zero", "PAX record", pax("0 path=a\n"));
  add(
    "a PAX header that is not UTF-8",
    "not UTF-8",
    after({ name: "x", flag: "x", body: notUtf8Record }, { name: "a" }),
  );
  add("a PAX header without an entry", "before nothing", after(paxPart(paxRecord("path", "a"))));
  add("two PAX headers in a row", "two PAX headers", after(paxPart(), paxPart(), { name: "a" }));
  add("a PAX header of 17 KiB", "more than 16384", pax(paxRecord("comment", "x".repeat(17 * 1024))));

  const bent = (bend: (header: Uint8Array) => void): Bytes => after({ name: "a", body: "x", bend });
  const put = (at: number, text: string) => (header: Uint8Array) => header.set(utf8(text), at);
  add("a header without magic", "not ustar", bent(put(257, "\0".repeat(8))));
  add(
    "a size in binary",
    "size is not a number",
    bent((header) => (header[124] = 0x80)),
  );
  add("a size with other signs", "size is not a number", bent(put(124, "0000000000-1")));
  add("a size with digits behind its end", "size is not a number", bent(put(124, "1\x000000000001")));
  add("a name that goes on behind its end", "goes on", bent(put(10, "hidden")));
  add("a folder with bytes", "a folder has bytes", after({ name: "a/", flag: "5", body: "x" }));
  add("something in the padding", "padding", after({ name: "a", body: "x", padding: 0x41 }));
  const wrongSum = goodTar.slice();
  wrongSum[3] = 0x51;
  add("a header with a wrong checksum", "checksum is wrong", gzipOf(wrongSum));
  const hidden = tarPart({ name: "hidden", body: "x" });
  const goodParts = goodTar.subarray(0, -tarEnd.length);
  add(
    "an entry behind one zero block",
    "behind its end",
    gzipOf(concat(goodParts, new Uint8Array(512), hidden, tarEnd)),
  );
  add("an entry behind the end", "behind its end", gzipOf(concat(goodTar, hidden, tarEnd)));
  add("a byte behind the end", "behind its end", gzipOf(concat(goodTar, new Uint8Array(9000), Uint8Array.of(1))));
  add("half a block behind the end", "inside a block", gzipOf(concat(goodTar, new Uint8Array(256))));
  add("no end", "ends too early", gzipOf(goodParts));
  add("half an end", "ends too early", gzipOf(goodTar.subarray(0, -512)));
  add("a file that is cut off", "ends too early", gzipOf(concat(goodParts, hidden.subarray(0, 512))));

  add("two gzip members", "behind its gzip member", concat(goodGzip, goodGzip));
  add("a tar in two gzip members", "", concat(gzipOf(goodParts), gzipOf(concat(hidden, tarEnd))));
  add("an empty second gzip member", "behind its gzip member", concat(goodGzip, gzipOf(new Uint8Array(0))));
  add("bytes behind the gzip", "behind its gzip member", concat(goodGzip, utf8("garbage behind")));
  add("zeros behind the gzip", "behind its gzip member", concat(goodGzip, new Uint8Array(512)));
  add("a byte behind the gzip", "", concat(goodGzip, new Uint8Array(1)));
  const named = concat(goodGzip.subarray(0, 10), utf8("name\0"), goodGzip.subarray(10));
  named[3] = 8;
  add("a file's name in the gzip header", "further fields", named);
  for (const [what, at] of Object.entries({ checksum: 8, length: 4 })) {
    const wrong = goodGzip.slice();
    wrong[wrong.length - at] = wrong.at(-at)! ^ 1;
    add(`a wrong ${what} in the gzip trailer`, `its ${what} is`, wrong);
  }
  add("bytes that are no gzip", "it is not gzip", utf8("not an archive, nor anything like one"));
  add("a plain tar", "it is not gzip", goodTar);
  add("a zip", "it is not gzip", utf8("PK\u0003\u0004 and so on, and so on"));
  add("a gzip header and nothing more", "too short", goodGzip.slice(0, 12));
  add("a gzip that is cut off", "", goodGzip.slice(0, goodGzip.length - 20));
  add("a gzip of nothing", "ends too early", gzipOf(new Uint8Array(0)));

  add("nothing but an end", "no maestro.json as its first", gzipOf(tarEnd));
  add("no maestro.json", "no maestro.json as its first", gzipOf(tarOf(good[1]!)));
  add("maestro.json as second entry", "no maestro.json as its first", gzipOf(tarOf(good[1]!, good[0]!)));
  add("a folder maestro.json", "no maestro.json as its first", gzipOf(tarOf({ name: "maestro.json", flag: "5" })));
  add("maestro.json as a link", "holds a symlink", gzipOf(tarOf({ name: "maestro.json", flag: "2", linkname: "m" })));
  add("a maestro.json of 65 KiB", "more than 65536", manifestOnly(JSON.stringify(manifest).padEnd(65 * 1024)));
  add(
    "a maestro.json that claims 1 GiB",
    "more than 65536",
    gzipOf(tarPart({ name: "maestro.json", size: 1024 ** 3 })),
  );
  add("a maestro.json that is no JSON", "not JSON", manifestOnly("{"));
  add("a maestro.json that is not UTF-8", "not JSON", manifestOnly(Uint8Array.of(0x22, 0xff, 0x22)));
  add("a maestro.json with a byte order mark", "not JSON", manifestOnly(`\u{feff}${JSON.stringify(manifest)}`));
  add("an unknown field in maestro.json", "network", manifestOnly(JSON.stringify({ ...manifest, network: true })));
  add("no entry point", "is not inside", gzipOf(tarOf(good[0]!)));
  add("a folder as entry point", "is not inside", gzipOf(tarOf(good[0]!, { name: "main.mjs", flag: "5" })));

  const tooMuch = `more than the ${declared} bytes`;
  const half = new Uint8Array(Math.ceil(declared / 2)).fill(0x61);
  add("one file of more bytes than declared", tooMuch, after({ name: "big", body: new Uint8Array(declared + 1) }));
  add("files of more bytes than declared", tooMuch, after({ name: "a", body: half }, { name: "b", body: half }));
  add("a header that claims 8 GiB", tooMuch, after({ name: "a", size: 8 * 1024 ** 3 - 1 }));
  const many = Array.from({ length: 4_097 }, (_, at) => ({ name: `f${at}` }));
  add("4,099 files", "more than 4096 entries", after(...many));
  const deep = Array.from({ length: 45 }, (_, at) => ({
    name: `${"d/".repeat(49)}f`,
    prefix: `${at}${"/d".repeat(48)}`,
  }));
  add("45 files in 4,410 folders", "more than 4096 entries", after(...deep));
  add("1 GiB of zeros", "far more than", zeroBomb(good, 1024));
  return list.map(([what, reason, archive]) => ({ what, reason, archive }));
}

const notUtf8Record = concat(utf8("9 path="), Uint8Array.of(0xff), utf8("\n"));
