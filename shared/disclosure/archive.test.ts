// The one form of a pack's archive: whatever bit of it is another, it is none. verify.test.ts has archives that are put
// together from whole pieces.

import { beforeAll, expect, test } from "vitest";
import { packArchive } from "../../test/simulation/disclosure-world.ts";
import { utf8, type Bytes } from "../contract/bytes.ts";
import { readArchive } from "./archive.ts";

const endBytes = 22;
let zip: Bytes;
beforeAll(async () => {
  zip = await packArchive([
    { name: "README.txt", bytes: utf8("read me") },
    { name: "events/1.json", bytes: utf8("{}") },
  ]);
});

/** With a number written at `at`, counted from the end where it is negative. */
function written(at: number, value: number, byteCount: 2 | 4): Bytes {
  const changed = new Uint8Array(zip);
  const view = new DataView(changed.buffer);
  const place = at < 0 ? zip.length + at : at;
  if (byteCount === 2) view.setUint16(place, value, true);
  else view.setUint32(place, value, true);
  return changed;
}

test("an archive as packs are written is read", () => {
  const read = readArchive(zip);
  expect(read.ok && [...read.files.keys()]).toEqual(["README.txt", "events/1.json"]);
});

test("with any bit flipped, in content, headers, directory or end record, it is refused", () => {
  for (let at = 0; at < zip.length * 8; at += 1) {
    const flipped = new Uint8Array(zip);
    flipped[at >> 3]! ^= 1 << (at & 7);
    expect(readArchive(flipped).ok, `bit ${at} of ${zip.length * 8}`).toBe(false);
  }
});

test("cut off anywhere, or with anything in front of it or behind, it is refused", () => {
  for (let length = 0; length < zip.length; length += 1) expect(readArchive(zip.slice(0, length)).ok).toBe(false);
  for (const more of [new Uint8Array(1), zip, new Uint8Array(endBytes)]) {
    for (const parts of [
      [more, zip],
      [zip, more],
    ])
      expect(readArchive(new Uint8Array(Buffer.concat(parts))).ok).toBe(false);
  }
});

test("another checksum, also where header and directory agree on it, is refused: tools would refuse the file", () => {
  const crcIn = (at: number): number => new DataView(zip.buffer).getUint32(at, true);
  const local = 30 + "README.txt".length + "read me".length;
  const central = new DataView(zip.buffer).getUint32(zip.length - 6, true);
  expect(crcIn(local + 4)).toBe(crcIn(central + 16));
  const changed = written(local + 4, 1, 4);
  new DataView(changed.buffer).setUint32(central + 16, 1, true);
  expect(readArchive(changed)).toMatchObject({ ok: false, reason: "the file's checksum is wrong", file: "README.txt" });
});
