// Reads a tar archive's files and folders in the one form that every tool reads alike: ustar headers (POSIX or GNU magic),
// before them at most a PAX header with a path and what does not matter here, zero padding, two zero blocks, and zeros
// up to the end. Links, devices, sparse files, GNU long names, global headers are refused. Called by package-archive.ts.
// https://pubs.opengroup.org/onlinepubs/9799919799/utilities/pax.html
//
// Our own and not modern-tar's decoder, which forgives: it reads every type flag that it does not know (sparse files among
// them) as a plain file, drops the bytes of a file whose name ends with a slash, and lets a PAX header say a size.

import { utf8Text } from "../contract/bytes.ts";
import { ArchiveRefusal, brokenArchive } from "./archive-refusal.ts";

export interface TarEntry {
  /** As the archive has it, without a folder's last slash. Not checked. */
  readonly name: string;
  readonly kind: "file" | "folder";
  readonly bytes: number;
  /** The file's bytes, once. What is not taken of them is skipped. */
  readonly body: AsyncGenerator<Uint8Array>;
}

const blockBytes = 512;
const paxBytesMax = 16 * 1024;

const refusedKinds: Readonly<Record<string, string>> = {
  "1": "link",
  "2": "symlink",
  "3": "character-device",
  "4": "block-device",
  "6": "fifo",
  "7": "contiguous file",
  D: "GNU folder dump",
  g: "global PAX header",
  K: "GNU long link name",
  L: "GNU long name (`tar --format=posix` writes none)",
  M: "file of several volumes",
  S: "sparse file",
  V: "volume name",
};

/**
 * What a PAX header may say: another path, or things that are not looked at. Any other record (`size`, `linkpath`,
 * `GNU.sparse.*`, `hdrcharset`, one that we do not know) could mean another file to another tool.
 */
const paxKeys = new Set([
  "path",
  "mtime",
  "atime",
  "ctime",
  "uid",
  "gid",
  "uname",
  "gname",
  "comment",
  "LIBARCHIVE.creationtime",
]);

/**
 * The entries in their order, as they are pulled; take a body before the next entry. Throws ArchiveRefusal at the first
 * thing that is not in the form above; the end of the archive is checked before this ends.
 */
export async function* tarEntries(tar: AsyncIterable<Uint8Array>): AsyncGenerator<TarEntry> {
  const source = new Source(tar);
  try {
    for (;;) {
      const header = await nextHeader(source);
      if (header === null) return;
      let left = header.bytes;
      const next = async (): Promise<Uint8Array | null> => {
        if (left === 0) return null;
        const piece = await source.some(left);
        left -= piece.length;
        return piece;
      };
      const body = async function* (): AsyncGenerator<Uint8Array> {
        for (let piece = await next(); piece !== null; piece = await next()) yield piece;
      };
      yield { ...header, body: body() };
      while ((await next()) !== null);
      await skipPadding(source, header.bytes);
    }
  } finally {
    await source.close();
  }
}

type Header = Pick<TarEntry, "name" | "kind" | "bytes">;

/** The next file's or folder's header, with what a PAX header before it says; null at the archive's end. */
async function nextHeader(source: Source): Promise<Header | null> {
  let paxPath: string | null = null;
  let isPaxBefore = false;
  for (;;) {
    const block = await source.exactly(blockBytes);
    if (isZero(block)) {
      if (isPaxBefore) throw brokenArchive("a PAX header stands before nothing");
      await checkEnd(source);
      return null;
    }
    const header = ustarHeader(block);
    if (header.flag === "x") {
      if (isPaxBefore) throw brokenArchive("two PAX headers stand before one entry");
      if (header.bytes > paxBytesMax) throw brokenArchive(`a PAX header has more than ${paxBytesMax} bytes`);
      paxPath = paxPathOf(await source.exactly(header.bytes));
      isPaxBefore = true;
      await skipPadding(source, header.bytes);
      continue;
    }
    const name = paxPath ?? header.name;
    if (header.flag === "5") {
      if (header.bytes > 0) throw brokenArchive("a folder has bytes of its own");
      return { name: name.endsWith("/") ? name.slice(0, -1) : name, kind: "folder", bytes: 0 };
    }
    if (header.flag === "0" || header.flag === "\0") return { name, kind: "file", bytes: header.bytes };
    const kind = refusedKinds[header.flag] ?? `strange entry (type ${JSON.stringify(header.flag)})`;
    throw new ArchiveRefusal(`it holds a ${kind}; only files and folders may be inside`);
  }
}

function ustarHeader(block: Uint8Array): { readonly flag: string; readonly name: string; readonly bytes: number } {
  const checksum = octal(block, 148, 8, "checksum");
  // The checksum's own eight bytes count as spaces.
  const sum = total(block) - total(block.subarray(148, 156)) + 8 * 0x20;
  if (sum !== checksum) throw brokenArchive("a header's checksum is wrong");
  const magic = latin1(block.subarray(257, 265));
  const isPosix = magic === "ustar\u000000";
  if (!isPosix && magic !== "ustar  \0") throw brokenArchive("a header is not ustar");
  const prefix = isPosix ? text(block, 345, 155, "prefix") : "";
  const name = text(block, 0, 100, "name");
  return {
    flag: latin1(block.subarray(156, 157)),
    name: prefix === "" ? name : `${prefix}/${name}`,
    bytes: octal(block, 124, 12, "size"),
  };
}

/** Digits with spaces before, and spaces or NULs behind; not the binary form, which is for more than 8 GiB. */
function octal(block: Uint8Array, at: number, length: number, what: string): number {
  const digits = /^ *([0-7]+)[ \0]*$/.exec(latin1(block.subarray(at, at + length)))?.[1];
  if (digits === undefined) throw brokenArchive(`a header's ${what} is not a number`);
  return Number.parseInt(digits, 8);
}

function text(block: Uint8Array, at: number, length: number, what: string): string {
  const field = block.subarray(at, at + length);
  const end = field.indexOf(0);
  if (end === -1) return utf8(field, what);
  if (!isZero(field.subarray(end))) throw brokenArchive(`a header's ${what} goes on behind its end`);
  return utf8(field.subarray(0, end), what);
}

/** The `path` that a PAX header gives, or null. Its records are `<length> <key>=<value>\n` and tile it. */
function paxPathOf(bytes: Uint8Array): string | null {
  const seen = new Set<string>();
  let path: string | null = null;
  for (let at = 0; at < bytes.length;) {
    const length = /^([1-9]\d{0,5}) /.exec(latin1(bytes.subarray(at, at + 7)))?.[1];
    const end = at + Number(length);
    if (length === undefined || end > bytes.length || bytes[end - 1] !== 0x0a)
      throw brokenArchive("a PAX record has not the length it says");
    const record = utf8(bytes.subarray(Math.min(at + length.length + 1, end - 1), end - 1), "PAX record");
    const equals = record.indexOf("=");
    const key = record.slice(0, Math.max(0, equals));
    if (!paxKeys.has(key))
      throw new ArchiveRefusal(
        `it has a PAX record that a package may not have: ${JSON.stringify(record.slice(0, 60))}`,
      );
    if (seen.has(key)) throw brokenArchive(`a PAX header says ${key} twice`);
    seen.add(key);
    if (key === "path") path = record.slice(equals + 1);
    at = end;
  }
  return path;
}

async function skipPadding(source: Source, bodyBytes: number): Promise<void> {
  const padding = await source.exactly(-bodyBytes & (blockBytes - 1));
  if (!isZero(padding)) throw brokenArchive("the padding behind an entry is not zero");
}

/** Behind the first zero block: a second one, then zeros only, in whole blocks. */
async function checkEnd(source: Source): Promise<void> {
  if (!isZero(await source.exactly(blockBytes))) throw brokenArchive("something lies behind its end");
  let rest = 0;
  for (;;) {
    const piece = await source.someOrNone();
    if (piece === null) break;
    if (!isZero(piece)) throw brokenArchive("something lies behind its end");
    rest += piece.length;
  }
  if (rest % blockBytes !== 0) throw brokenArchive("it ends inside a block");
}

/** Bytes as they are asked for, from pieces of any length. */
class Source {
  readonly #pieces: AsyncIterator<Uint8Array>;
  #piece: Uint8Array = new Uint8Array(0);

  constructor(pieces: AsyncIterable<Uint8Array>) {
    this.#pieces = pieces[Symbol.asyncIterator]();
  }

  /** What is left of the piece in hand, or the next one; null at the end. */
  async someOrNone(bytesMax = Number.POSITIVE_INFINITY): Promise<Uint8Array | null> {
    while (this.#piece.length === 0) {
      const { done, value } = await this.#pieces.next();
      if (done === true) return null;
      this.#piece = value;
    }
    const some = this.#piece.subarray(0, Math.min(bytesMax, this.#piece.length));
    this.#piece = this.#piece.subarray(some.length);
    return some;
  }

  async some(bytesMax: number): Promise<Uint8Array> {
    const piece = await this.someOrNone(bytesMax);
    if (piece === null) throw brokenArchive("it ends too early");
    return piece;
  }

  async exactly(byteCount: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(byteCount);
    for (let at = 0; at < byteCount;) {
      const piece = await this.some(byteCount - at);
      bytes.set(piece, at);
      at += piece.length;
    }
    return bytes;
  }

  async close(): Promise<void> {
    await this.#pieces.return?.();
  }
}

function total(bytes: Uint8Array): number {
  let sum = 0;
  for (const byte of bytes) sum += byte;
  return sum;
}

function isZero(bytes: Uint8Array): boolean {
  for (const byte of bytes) if (byte !== 0) return false;
  return true;
}

function latin1(bytes: Uint8Array): string {
  let characters = "";
  for (const byte of bytes) characters += String.fromCharCode(byte);
  return characters;
}

function utf8(bytes: Uint8Array, what: string): string {
  try {
    return utf8Text(bytes);
  } catch {
    throw brokenArchive(`a ${what} is not UTF-8`);
  }
}
