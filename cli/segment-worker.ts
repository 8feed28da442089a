// One thread of segment-pool.ts: checks the segments that it is sent, one after the other.

import { enableCompileCache } from "node:module";
import { join } from "node:path";
import { parentPort } from "node:worker_threads";
import type { SegmentTask } from "../shared/audit/verify-segment.ts";

// As in main.ts: most of a thread's start is compiling.
enableCompileCache(join(import.meta.dirname, "..", "node_modules", ".cache", "maestro"));
const { checkSegment } = await import("../shared/audit/verify-segment.ts");
const { gzip, sha256 } = await import("./hashing.ts");

/** What it throws ends the thread, and is told to who asked. */
async function answer(task: SegmentTask): Promise<void> {
  const report = await checkSegment(task, { sha256, gzip });
  parentPort?.postMessage(report, "leaves" in report ? [report.leaves.buffer] : []);
}

parentPort?.on("message", (task: SegmentTask) => void answer(task));
