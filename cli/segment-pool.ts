// Checks the segments of a log side by side, in threads: `maestro audit verify` of a million rows is a minute of computing. A
// short log is checked where it is asked for, since threads take half a second to start.

import { Worker } from "node:worker_threads";
import {
  checkSegment,
  type SegmentChecker,
  type SegmentParts,
  type SegmentReport,
  type SegmentTask,
} from "../shared/audit/verify-segment.ts";

/** Rows that are checked without threads: those of a full segment, behind which there may be a hundred. */
const rowsBeforeThreads = 10_000;
/** A thread's young objects, in MiB: nearly all die young, and with what is usual the process takes a quarter more memory. */
const youngMebibytes = 32;
/** So that a thread's work lies ready when it is done with another. */
const aheadOfEach = 2;

export interface SegmentPool extends SegmentChecker {
  /** Ends the threads at once, whatever they do; what was asked for and not answered is rejected. */
  close(): Promise<void>;
}

interface Asked {
  readonly task: SegmentTask;
  resolve(report: SegmentReport): void;
  reject(error: unknown): void;
}

export function segmentPool(threads: number, parts: SegmentParts, threadsFrom = rowsBeforeThreads): SegmentPool {
  const waiting: Asked[] = [];
  const workers: Worker[] = [];
  const idle: Worker[] = [];
  const busy = new Map<Worker, Asked>();
  let failure: Error | null = null;

  function fail(error: Error): void {
    failure ??= error;
    for (const asked of [...busy.values(), ...waiting]) asked.reject(failure);
    busy.clear();
    waiting.length = 0;
  }

  function start(): Worker {
    const resourceLimits = { maxYoungGenerationSizeMb: youngMebibytes };
    const worker = new Worker(new URL("segment-worker.ts", import.meta.url), { resourceLimits });
    worker.on("message", (report: SegmentReport) => {
      busy.get(worker)?.resolve(report);
      busy.delete(worker);
      idle.push(worker);
      assign();
    });
    worker.on("error", (error) => fail(error instanceof Error ? error : new Error(String(error))));
    worker.on("exit", () => fail(new Error("a thread that checks segments has ended")));
    workers.push(worker);
    return worker;
  }

  function assign(): void {
    while (waiting.length > 0) {
      const worker = idle.pop() ?? (workers.length < threads ? start() : undefined);
      if (worker === undefined) return;
      const asked = waiting.shift()!;
      busy.set(worker, asked);
      worker.postMessage(asked.task, [asked.task.bytes.buffer]);
    }
  }

  return {
    ahead: threads * aheadOfEach,
    check: (task) =>
      task.of.range.to <= threadsFrom
        ? checkSegment(task, parts)
        : new Promise((resolve, reject) => {
            if (failure !== null) return reject(failure);
            waiting.push({ task, resolve, reject });
            assign();
          }),
    async close() {
      fail(new Error("the threads that check segments are ended"));
      await Promise.all(workers.map((worker) => worker.terminate()));
    },
  };
}
