// GZIP for segments' pages, over the zlib of whoever calls: the audit worker, the command line, simulations. Strict, so that
// a page has one reading: no header fields, no second member, nothing behind the first one's end.
// https://www.rfc-editor.org/rfc/rfc1952

import type { Gzip } from "./segment.ts";

/** What is needed of node:zlib. */
export interface Zlib {
  gzipSync(bytes: Uint8Array, options: { readonly level: number }): Uint8Array;
  /** With `info`: `{ buffer, engine: { bytesWritten } }`, the latter being how many bytes of the input were used. */
  inflateRawSync(
    bytes: Uint8Array,
    options: { readonly maxOutputLength: number; readonly chunkSize: number; readonly info: true },
  ): unknown;
  crc32(bytes: Uint8Array): number;
}

/** Magic, deflate, no flags and so no further fields; then time, level and system, ten bytes in all. */
const plainHeader = [0x1f, 0x8b, 8, 0];
const headerBytes = 10;
/** CRC-32 and length of what was deflated. */
const trailerBytes = 8;
const systemAt = 9;
/** Everywhere, so that the same rows give the same bytes. */
const unknownSystem = 255;

/** Half of the time of the default level, for 8% more bytes. */
const level = 3;
const outputChunkBytes = 64 * 1024;
/** What zlib takes at least. */
const outputChunkBytesMin = 64;
/** What a forged size may have allocated ahead of its bytes. */
const outputChunkBytesMax = 4 * 1024 * 1024;

export const gzipOver = (zlib: Zlib): Gzip => ({
  deflate(bytes) {
    const deflated = new Uint8Array(zlib.gzipSync(bytes, { level }));
    deflated[systemAt] = unknownSystem;
    return deflated;
  },
  inflate(bytes, byteCount) {
    if (bytes.length < headerBytes + trailerBytes || plainHeader.some((byte, at) => bytes[at] !== byte)) {
      throw new RangeError("a page is not a plain gzip member");
    }
    const deflated = bytes.subarray(headerBytes, -trailerBytes);
    // workerd counts whole chunks of its output buffer against the limit, also where the result is exactly that long.
    const maxOutputLength = byteCount + outputChunkBytes;
    // One chunk for all of it, and a byte that shows that there is no more.
    const chunkSize = Math.min(Math.max(byteCount + 1, outputChunkBytesMin), outputChunkBytesMax);
    const options = { maxOutputLength, chunkSize, info: true } as const;
    const { buffer, engine } = zlib.inflateRawSync(deflated, options) as InflatedWithInfo;
    if (engine.bytesWritten !== deflated.length) throw new RangeError("something lies behind a page's gzip member");
    const trailer = new DataView(bytes.buffer, bytes.byteOffset + bytes.length - trailerBytes, trailerBytes);
    if (buffer.length !== byteCount || trailer.getUint32(4, true) !== byteCount) {
      throw new RangeError("a page has another size than it says");
    }
    if (zlib.crc32(buffer) !== trailer.getUint32(0, true))
      throw new RangeError("a page has another checksum than it says");
    return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.length);
  },
});

interface InflatedWithInfo {
  readonly buffer: Uint8Array;
  readonly engine: { readonly bytesWritten: number };
}
