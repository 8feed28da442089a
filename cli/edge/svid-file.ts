// Which SVID a fetcher holds, in a file beside its policies, for `maestro edge status`: without the token itself. Written by
// `maestro edge fetch|serve`. It may be lost: nothing is decided by it.

import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { reportedSvid, type ReportedSvid } from "../../shared/contract/http-edge.ts";
import { errorCode } from "../failure.ts";
import { writePrivate } from "../folders.ts";

const fileName = "svid.json";

/** Null where there is none, or none that can be read. */
export async function readHeldSvid(folder: string): Promise<ReportedSvid | null> {
  try {
    const parsed = reportedSvid.safeParse(JSON.parse(await readFile(join(folder, fileName), "utf8")));
    return parsed.success ? parsed.data : null;
  } catch (error) {
    if (error instanceof SyntaxError || errorCode(error) === "ENOENT") return null;
    throw error;
  }
}

/** Null, or why it was not written: a full disk stops no fetcher. `svid` null: it holds none, and comes with a key. */
export async function writeHeldSvid(folder: string, svid: ReportedSvid | null): Promise<string | null> {
  const path = join(folder, fileName);
  try {
    if (svid === null) await rm(path, { force: true });
    else await writePrivate(path, `${JSON.stringify(svid)}\n`);
    return null;
  } catch (error) {
    const code = errorCode(error);
    if (code === null) throw error;
    return code;
  }
}
