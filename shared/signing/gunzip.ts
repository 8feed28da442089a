// One gzip member, inflated as it is pulled, over the zlib of whoever calls. Strict, so that an archive has one reading: no
// header fields, no second member, nothing behind the first one's end, and length and checksum as the trailer says. Called
// by package-archive.ts. https://www.rfc-editor.org/rfc/rfc1952
//
// Not DecompressionStream: workerd's inflates whatever is written to it, read or not, so that a bomb would fill the
// isolate's memory before the first entry was looked at. node:zlib, which workerd has too, waits for its reader.

import { concat } from "../contract/bytes.ts";
import { ArchiveRefusal, brokenArchive } from "./archive-refusal.ts";

/** What is needed of node:zlib. */
export interface Zlib {
  createInflateRaw(options: { readonly chunkSize: number }): InflateStream;
  crc32(bytes: Uint8Array, previous: number): number;
}

/** A Transform of Node that inflates raw DEFLATE. */
export interface InflateStream extends AsyncIterable<Uint8Array> {
  /** How many bytes of the input were used. */
  readonly bytesWritten: number;
  readonly destroyed: boolean;
  /** `done` comes when the bytes are used and what they gave is on its way; never, for a stream that has ended. */
  write(bytes: Uint8Array, done: () => void): unknown;
  end(): unknown;
  destroy(error?: Error): unknown;
  on(event: "end" | "error" | "close", listener: () => void): unknown;
}

/** Magic, deflate, no flags and so no further fields; then time, level and system, ten bytes in all. */
const plainHeader = [0x1f, 0x8b, 8, 0];
const headerBytes = 10;
/** CRC-32 and length, modulo 2^32, of what was deflated. */
const trailerBytes = 8;
/** How much is inflated before the reader is waited for. */
const pieceBytes = 64 * 1024;

/**
 * The bytes inside, in pieces. Throws ArchiveRefusal for anything but one whole plain member, at the latest behind the last
 * piece, so nothing is certain before the end. What `archive` itself throws goes through as it is.
 */
export async function* gunzip(archive: AsyncIterable<Uint8Array>, zlib: Zlib): AsyncGenerator<Uint8Array> {
  const trailer = new Uint8Array(trailerBytes);
  let checksum = 0;
  let byteCount = 0;
  for await (const piece of inflate(deflatedOf(archive, trailer), zlib)) {
    checksum = zlib.crc32(piece, checksum);
    byteCount += piece.length;
    yield piece;
  }
  const told = new DataView(trailer.buffer);
  if (told.getUint32(0, true) !== checksum) throw brokenArchive("its checksum is wrong");
  if (told.getUint32(4, true) !== byteCount % 2 ** 32) throw brokenArchive("its length is not the one it says");
}

/** What lies between header and trailer; the latter is in `trailer` when this has ended. */
async function* deflatedOf(archive: AsyncIterable<Uint8Array>, trailer: Uint8Array): AsyncGenerator<Uint8Array> {
  let held: Uint8Array = new Uint8Array(0);
  let headerRead = false;
  for await (const chunk of archive) {
    let bytes: Uint8Array = held.length === 0 ? chunk : concat(held, chunk);
    if (!headerRead && bytes.length >= headerBytes) {
      checkHeader(bytes);
      headerRead = true;
      bytes = bytes.subarray(headerBytes);
    }
    const end = headerRead ? Math.max(0, bytes.length - trailerBytes) : 0;
    if (end > 0) yield bytes.subarray(0, end);
    held = bytes.slice(end);
  }
  if (!headerRead || held.length < trailerBytes) throw brokenArchive("it is too short for a gzip member");
  trailer.set(held);
}

function checkHeader(bytes: Uint8Array): void {
  if (plainHeader.slice(0, 3).some((byte, at) => bytes[at] !== byte)) throw brokenArchive("it is not gzip");
  if (bytes[3] !== plainHeader[3])
    throw new ArchiveRefusal("its gzip header has further fields, such as a file's name (`gzip -n` leaves them out)");
}

async function* inflate(deflated: AsyncIterable<Uint8Array>, zlib: Zlib): AsyncGenerator<Uint8Array> {
  const stream = zlib.createInflateRaw({ chunkSize: pieceBytes });
  const over = new Promise<void>((resolve) => {
    for (const event of ["end", "error", "close"] as const) stream.on(event, resolve);
  });
  let fedBytes = 0;
  let sourceFailure: { readonly error: unknown } | null = null;
  const feed = async (): Promise<void> => {
    try {
      for await (const bytes of deflated) {
        if (stream.destroyed) return;
        fedBytes += bytes.length;
        await Promise.race([new Promise<void>((done) => void stream.write(bytes, done)), over]);
      }
      stream.end();
    } catch (error) {
      sourceFailure = { error };
      stream.destroy(new Error("the source failed"));
    }
  };
  // Not awaited: it ends by itself with the stream, and a source that stalls must not hold up a refusal. It never rejects.
  void feed();
  try {
    for await (const piece of stream) yield piece;
  } catch (error) {
    const failure = sourceFailure as { readonly error: unknown } | null;
    if (failure !== null) throw failure.error;
    throw brokenArchive(error instanceof Error ? error.message : "it cannot be inflated");
  } finally {
    stream.destroy();
  }
  if (stream.bytesWritten !== fedBytes) throw brokenArchive("something lies behind its gzip member");
}
