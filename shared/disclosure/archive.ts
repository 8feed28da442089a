// Reads a pack's ZIP archive in the one form in which packs are written (client-zip: stored, with data descriptors, UTF-8
// names), so that every tool finds the same files in it: entries tile the file from its first byte on, in the order of the
// central directory, local and central headers agree, and nothing is left over. Called by shared/disclosure/verify.ts.
// https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT

import { utf8Text } from "../contract/bytes.ts";

export type ReadArchive =
  | { readonly ok: true; readonly files: ReadonlyMap<string, Uint8Array> }
  | { readonly ok: false; readonly reason: string; readonly file: string | null };

const localBytes = 30;
const descriptorBytes = 16;
const centralBytes = 46;
const endBytes = 22;
const signatures = { local: 0x04034b50, descriptor: 0x08074b50, central: 0x02014b50, end: 0x06054b50 };
/** Version 4.5; made on Unix. */
const version = 45;
const madeOnUnix = (3 << 8) | version;
/** Sizes behind the data (bit 3), names in UTF-8 (bit 11); not encrypted. */
const flags = (1 << 3) | (1 << 11);
const stored = 0;
/** A regular file, rw-rw-r--: a link would be followed by some tools that unpack it. */
const mode = 0o100664;

class Odd extends Error {
  readonly file: string | null;
  constructor(reason: string, file: string | null = null) {
    super(reason);
    this.file = file;
  }
}

export function readArchive(zip: Uint8Array): ReadArchive {
  try {
    return { ok: true, files: filesOf(zip) };
  } catch (error) {
    if (error instanceof Odd) return { ok: false, reason: error.message, file: error.file };
    throw error;
  }
}

interface Central {
  readonly name: string;
  readonly nameBytes: Uint8Array;
  readonly time: number;
  readonly crc: number;
  readonly size: number;
  readonly next: number;
}

function filesOf(zip: Uint8Array): Map<string, Uint8Array> {
  const view = new DataView(zip.buffer, zip.byteOffset, zip.byteLength);
  const end = zip.length - endBytes;
  if (end < 0 || view.getUint32(end, true) !== signatures.end) {
    throw new Odd("the pack is not a ZIP archive that ends with its end record");
  }
  const count = view.getUint16(end + 10, true);
  const directory = view.getUint32(end + 16, true);
  if (
    // Disk numbers and comment; a second count.
    view.getUint32(end + 4, true) !== 0 ||
    view.getUint16(end + 20, true) !== 0 ||
    view.getUint16(end + 8, true) !== count ||
    view.getUint32(end + 12, true) !== end - directory
  ) {
    throw new Odd("the archive's end record is not that of a pack");
  }
  const files = new Map<string, Uint8Array>();
  let central = directory;
  let local = 0;
  for (let at = 0; at < count; at += 1) {
    const entry = centralAt(view, zip, central, end, local);
    if (files.has(entry.name)) throw new Odd("the file is there twice", entry.name);
    files.set(entry.name, contentAt(view, zip, local, directory, entry));
    central = entry.next;
    local += localBytes + entry.nameBytes.length + entry.size + descriptorBytes;
  }
  if (central !== end || local !== directory) throw new Odd("there is more in the archive than its directory says");
  return files;
}

function centralAt(view: DataView, zip: Uint8Array, at: number, end: number, local: number): Central {
  if (at + centralBytes > end || view.getUint32(at, true) !== signatures.central) {
    throw new Odd("the archive's directory is broken");
  }
  const next = at + centralBytes + view.getUint16(at + 28, true);
  if (next > end) throw new Odd("the archive's directory is broken");
  const nameBytes = zip.subarray(at + centralBytes, next);
  const name = nameOf(nameBytes);
  const size = view.getUint32(at + 24, true);
  const isOurs =
    view.getUint16(at + 4, true) === madeOnUnix &&
    view.getUint16(at + 6, true) === version &&
    view.getUint16(at + 8, true) === flags &&
    view.getUint16(at + 10, true) === stored &&
    view.getUint32(at + 20, true) === size &&
    // Extra field and comment; disk; attributes.
    view.getUint32(at + 30, true) === 0 &&
    view.getUint32(at + 34, true) === 0 &&
    view.getUint16(at + 38, true) === 0 &&
    view.getUint16(at + 40, true) === mode &&
    view.getUint32(at + 42, true) === local;
  if (!isOurs) throw new Odd("the file's entry in the directory is not one of a pack", name);
  return { name, nameBytes, time: view.getUint32(at + 12, true), crc: view.getUint32(at + 16, true), size, next };
}

function contentAt(view: DataView, zip: Uint8Array, at: number, directory: number, entry: Central): Uint8Array {
  const { name, nameBytes, time, crc, size } = entry;
  const start = at + localBytes + nameBytes.length;
  const behind = start + size;
  if (behind + descriptorBytes > directory) throw new Odd("the file overlaps the archive's directory", name);
  const isOurs =
    view.getUint32(at, true) === signatures.local &&
    view.getUint16(at + 4, true) === version &&
    view.getUint16(at + 6, true) === flags &&
    view.getUint16(at + 8, true) === stored &&
    view.getUint32(at + 10, true) === time &&
    // Checksum and sizes come behind the data.
    [14, 18, 22].every((field) => view.getUint32(at + field, true) === 0) &&
    view.getUint16(at + 26, true) === nameBytes.length &&
    view.getUint16(at + 28, true) === 0 &&
    nameBytes.every((byte, index) => zip[at + localBytes + index] === byte) &&
    view.getUint32(behind, true) === signatures.descriptor &&
    view.getUint32(behind + 4, true) === crc &&
    view.getUint32(behind + 8, true) === size &&
    view.getUint32(behind + 12, true) === size;
  if (!isOurs) throw new Odd("the file is not what the archive's directory says", name);
  const content = zip.subarray(start, behind);
  if (crc32(content) !== crc) throw new Odd("the file's checksum is wrong", name);
  return content;
}

function nameOf(bytes: Uint8Array): string {
  try {
    return utf8Text(bytes);
  } catch {
    throw new Odd("a file's name is not UTF-8");
  }
}

const crcTable = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

function crc32(bytes: Uint8Array): number {
  let value = 0xffffffff;
  for (const byte of bytes) value = (value >>> 8) ^ crcTable[(value ^ byte) & 0xff]!;
  return (value ^ 0xffffffff) >>> 0;
}
