// What a fetcher has counted, in a file beside what it holds. It may be lost: nothing is decided by it. Used by
// `maestro edge fetch|serve`, which write it, and by `maestro edge status`.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { edgeCounts, noCounts, type EdgeCounts } from "../../shared/edge/edge-counters.ts";
import { errorCode } from "../failure.ts";
import { writePrivate } from "../folders.ts";

const fileName = "counts.json";

/** All zero where there are none, or none that can be read. */
export async function readCounts(folder: string): Promise<EdgeCounts> {
  try {
    const parsed = edgeCounts.safeParse(JSON.parse(await readFile(join(folder, fileName), "utf8")));
    return parsed.success ? parsed.data : noCounts();
  } catch (error) {
    if (error instanceof SyntaxError || errorCode(error) === "ENOENT") return noCounts();
    throw error;
  }
}

/** Null, or why they were not written: a full disk stops no fetcher. */
export async function writeCounts(folder: string, counts: EdgeCounts): Promise<string | null> {
  try {
    await writePrivate(join(folder, fileName), `${JSON.stringify(counts)}\n`);
    return null;
  } catch (error) {
    const code = errorCode(error);
    if (code === null) throw error;
    return code;
  }
}
