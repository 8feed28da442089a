// Deltas between two tars by Node's zstd, with the older tar as dictionary (RFC 8878). Made by `maestro policy publish` and
// by the benchmark; applied by `maestro edge fetch|serve`. `zstd --patch-from OLD` makes and reads the same.

import { promisify } from "node:util";
import { constants, zstdCompress, zstdDecompress, type ZstdOptions } from "node:zlib";
import type { Bytes } from "../../shared/contract/bytes.ts";
import { deltaTarBytesMax } from "../../shared/edge/delta.ts";
import type { DeltaTools } from "../../shared/edge/patch-tar.ts";
import { errorCode } from "../failure.ts";

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

/** RFC 8878: windows have from 2^10 bytes on. Tables for less than 2^17 would spare nothing. */
const windowLogMin = 10;
const tablesLogMin = 17;
const pieceBytes = 1024 * 1024;
const lazyStrategy = constants.ZSTD_lazy;

const logOf = (bytes: number, min: number): number => Math.max(min, Math.ceil(Math.log2(bytes)));

/**
 * The delta that makes `to` of `from`; null where one of them is too large for one, or where what was made does not lead there.
 * 50 MB take some 3 s and 600 MB of memory.
 */
export async function makeDelta(from: Bytes, to: Bytes): Promise<Bytes | null> {
  if (from.length > deltaTarBytesMax || to.length > deltaTarBytesMax) return null;
  // Both tars in one window, and tables with room for each of their places: with the levels' own, what a large tar has in common
  // with the one before goes unseen. Measured in docs/adr/ADR-1228-deltas.md.
  const log = logOf(from.length + to.length, tablesLogMin);
  // The types of Node do not know `pledgedSrcSize` yet: with it a frame's window is no larger than what it makes.
  const options: ZstdOptions & { readonly pledgedSrcSize: number } = {
    dictionary: from,
    pledgedSrcSize: to.length,
    chunkSize: pieceBytes,
    params: {
      [constants.ZSTD_c_compressionLevel]: 9,
      [constants.ZSTD_c_windowLog]: log,
      [constants.ZSTD_c_hashLog]: log - 2,
      [constants.ZSTD_c_chainLog]: log - 1,
      [constants.ZSTD_c_searchLog]: 3,
      [constants.ZSTD_c_minMatch]: 5,
      [constants.ZSTD_c_targetLength]: 64,
      [constants.ZSTD_c_strategy]: lazyStrategy,
      // The tar's SHA-256 is compared, which says more.
      [constants.ZSTD_c_checksumFlag]: 0,
    },
  };
  const bytes = new Uint8Array(await compress(to, options));
  const back = await patch(from, bytes, to.length);
  return back.ok && Buffer.from(back.bytes.buffer).equals(to) ? bytes : null;
}

/** A frame that asks for a larger window than its output is refused before any memory is taken for it. */
export const patch: DeltaTools["patch"] = async (base, delta, bytesMax) => {
  try {
    const made = await decompress(delta, {
      dictionary: base,
      maxOutputLength: bytesMax,
      chunkSize: Math.min(pieceBytes, Math.max(1_024, bytesMax)),
      params: { [constants.ZSTD_d_windowLogMax]: logOf(bytesMax, windowLogMin) },
    });
    return { ok: true, bytes: new Uint8Array(made) };
  } catch (error) {
    const code = errorCode(error);
    if (code === "ERR_BUFFER_TOO_LARGE") return { ok: false, reason: `it makes more than ${bytesMax} bytes` };
    if (code === "Z_BUF_ERROR") return { ok: false, reason: "it ends too early" };
    if (code !== null && code.startsWith("ZSTD_error_")) return { ok: false, reason: `zstd says ${code}` };
    throw error;
  }
};
