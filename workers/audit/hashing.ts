// Synchronous SHA-256 and GZIP for the log's core, by node:crypto and node:zlib: workerd has both, and Node, where
// simulations use this file too.

import { createHash } from "node:crypto";
import { gunzipSync, gzipSync } from "node:zlib";
import type { Gzip } from "../../shared/audit/segment.ts";
import type { Sha256 } from "../../shared/audit/tree.ts";

export const sha256: Sha256 = (bytes) => new Uint8Array(createHash("sha256").update(bytes).digest());

/** RFC 1952, byte 9: the operating system. "Unknown" everywhere, so that the same rows give the same bytes. */
const unknownSystem = 255;

/** Half of the time of the default level, for 8% more bytes. */
const level = 3;
const outputChunkBytes = 64 * 1024;

export const gzip: Gzip = {
  deflate(bytes) {
    const deflated = new Uint8Array(gzipSync(bytes, { level }));
    deflated[9] = unknownSystem;
    return deflated;
  },
  inflate(bytes, byteCount) {
    // workerd counts whole chunks of its output buffer against the limit, also where the result is exactly that long.
    const inflated = new Uint8Array(gunzipSync(bytes, { maxOutputLength: byteCount + outputChunkBytes }));
    if (inflated.length !== byteCount) throw new RangeError("a page has another size than it says");
    return inflated;
  },
};
