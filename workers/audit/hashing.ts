// Synchronous SHA-256 and GZIP for the log's core, by node:crypto and node:zlib: workerd has both, and Node, where
// simulations use this file too.

import { createHash } from "node:crypto";
import zlib from "node:zlib";
import { gzipOver } from "../../shared/audit/gzip.ts";
import type { Sha256 } from "../../shared/audit/tree.ts";

export const sha256: Sha256 = (bytes) => new Uint8Array(createHash("sha256").update(bytes).digest());

export const gzip = gzipOver(zlib);
