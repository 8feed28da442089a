// What shared/edge needs of Node: inflating, packing, hashing, timers. Used by cli/edge/fetching.ts.

import { createHash } from "node:crypto";
import { promisify } from "node:util";
import { crc32, createInflateRaw, gzip } from "node:zlib";
import type { DeltaTools } from "../../shared/edge/patch-tar.ts";
import type { Timer } from "../../shared/edge/route-object.ts";
import type { ArchiveTools } from "../../shared/signing/package-archive.ts";
import { patch } from "./zstd-delta.ts";

const gzipped = promisify(gzip);

export const edgeTools: ArchiveTools & DeltaTools = {
  zlib: { createInflateRaw, crc32 },
  newHasher: () => createHash("sha256"),
  patch,
  // Level 1: it goes no further than to this machine's disk and its OPAs.
  gzip: async (bytes) => new Uint8Array(await gzipped(bytes, { level: 1 })),
};

export const nodeTimer: Timer = (ms, run) => {
  const timer = setTimeout(run, ms);
  return () => clearTimeout(timer);
};
