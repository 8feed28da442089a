// What shared/edge needs of Node: inflating, hashing, timers. Used by cli/commands/edge.ts.

import { createHash } from "node:crypto";
import { crc32, createInflateRaw } from "node:zlib";
import type { Timer } from "../../shared/edge/route-object.ts";
import type { ArchiveTools } from "../../shared/signing/package-archive.ts";

export const edgeTools: ArchiveTools = {
  zlib: { createInflateRaw, crc32 },
  newHasher: () => createHash("sha256"),
};

export const nodeTimer: Timer = (ms, run) => {
  const timer = setTimeout(run, ms);
  return () => clearTimeout(timer);
};
