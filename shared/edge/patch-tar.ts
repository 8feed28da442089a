// Applies a delta: the tar inside a bundle that is held, and the next tar that a delta makes of it. Called by edge-fetcher.ts,
// and by `maestro policy publish` for the tars that it makes deltas of. A delta may be anything: what comes of it is bounded
// by the length that was signed for the tar, and counts only under the tar's digest.

import { hex, type Bytes } from "../contract/bytes.ts";
import { ArchiveRefusal } from "../signing/archive-refusal.ts";
import { gunzip } from "../signing/gunzip.ts";
import type { ArchiveTools } from "../signing/package-archive.ts";
import { refusal, type Refusal } from "./refusal.ts";

/** What a runtime has to bring for deltas. */
export interface DeltaTools {
  /**
   * What `delta` makes of `base`, at most `bytesMax` bytes of it in memory; a clause about "it" where it is no delta, or of
   * something else, or makes more.
   */
  patch(
    base: Bytes,
    delta: Bytes,
    bytesMax: number,
  ): Promise<{ readonly ok: true; readonly bytes: Bytes } | { readonly ok: false; readonly reason: string }>;
  /** One gzip member without a name or a time: the same bytes for the same bytes. */
  gzip(bytes: Bytes): Promise<Bytes>;
}

export type ReadTar =
  | { readonly ok: true; readonly bytes: Bytes; readonly sha256: string }
  /** `reason`: a clause about "it". */
  | { readonly ok: false; readonly reason: string };

/** The tar inside a tar.gz, inflated to at most `bytesMax` bytes. Throws what the tools throw. */
export async function tarInside(bundle: Bytes, bytesMax: number, tools: ArchiveTools): Promise<ReadTar> {
  const hasher = tools.newHasher();
  // Grown by doubling and cut at the end: never more than twice what it holds.
  let tar: Bytes = new Uint8Array(Math.min(bytesMax, Math.max(64 * 1024, bundle.length * 4)));
  let length = 0;
  try {
    for await (const piece of gunzip(once(bundle), tools.zlib)) {
      if (length + piece.length > bytesMax) return { ok: false, reason: `it unpacks to more than ${bytesMax} bytes` };
      if (length + piece.length > tar.length) {
        const grown = new Uint8Array(Math.min(bytesMax, Math.max(tar.length * 2, length + piece.length)));
        grown.set(tar.subarray(0, length));
        tar = grown;
      }
      tar.set(piece, length);
      length += piece.length;
      hasher.update(piece);
    }
  } catch (error) {
    if (error instanceof ArchiveRefusal) return { ok: false, reason: error.message };
    throw error;
  }
  return { ok: true, bytes: tar.subarray(0, length), sha256: hex(await hasher.digest()) };
}

export type Patched = { readonly ok: true; readonly tar: Bytes } | { readonly ok: false; readonly refusal: Refusal };

/** The tar of that digest and length, made of `base` by a delta that may be anything. */
export async function patchTar(
  base: Bytes,
  delta: Bytes,
  wanted: { readonly tar_sha256: string; readonly tar_length: number },
  tools: ArchiveTools & DeltaTools,
): Promise<Patched> {
  const patched = await tools.patch(base, delta, wanted.tar_length);
  if (!patched.ok) return { ok: false, refusal: refusal("bad_delta", `the delta cannot be used: ${patched.reason}`) };
  const { bytes } = patched;
  const hasher = tools.newHasher();
  hasher.update(bytes);
  const digest = hex(await hasher.digest());
  if (bytes.length === wanted.tar_length && digest === wanted.tar_sha256) return { ok: true, tar: bytes };
  const what = `the delta makes ${bytes.length} bytes with the digest ${digest}, not ${wanted.tar_sha256}`;
  return { ok: false, refusal: refusal("bad_delta", what) };
}

async function* once(bytes: Bytes): AsyncGenerator<Uint8Array> {
  yield bytes;
}
