// SHA-256 and GZIP of Node for the pure parts that verify, in the main thread and in those of segment-pool.ts.

import { hash } from "node:crypto";
import zlib from "node:zlib";
import { gzipOver } from "../shared/audit/gzip.ts";
import type { Sha256 } from "../shared/audit/tree.ts";

/** In one call: an object for each hash takes twice as long, and a log has millions of them. */
export const sha256: Sha256 = (bytes) => hash("sha256", bytes, "buffer");

export const gzip = gzipOver(zlib);
