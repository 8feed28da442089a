// The shell's history: queries that were asked, one a line, in the state folder, for this user only (0600). Used by
// shell.ts.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { errorCode } from "../failure.ts";
import { folderOf, writePrivate } from "../folders.ts";
import type { Host } from "../host.ts";

const linesMax = 1_000;
/** A longer query is not kept. */
const lineCharactersMax = 4_096;

export const historyPath = (host: Host): string => join(folderOf(host, "state"), "pql-history");

/** The oldest first; none where there is no file yet. */
export async function readHistory(host: Host): Promise<string[]> {
  try {
    const text = await readFile(historyPath(host), "utf8");
    return text
      .split("\n")
      .filter((line) => line !== "")
      .slice(-linesMax);
  } catch (error) {
    if (errorCode(error) === "ENOENT") return [];
    throw error;
  }
}

/** Reads the file again first, so that two shells at a time keep what both were asked. */
export async function remember(host: Host, entry: string): Promise<void> {
  const kept = await readHistory(host);
  if (kept.at(-1) === entry) return;
  await writePrivate(historyPath(host), `${[...kept, entry].slice(-linesMax).join("\n")}\n`);
}

/** An API key or a token that was pasted into the wrong window. */
const secret = /\bmk_[a-z0-9]{32}\b|\beyJ[\w-]{10,}\.[\w-]+\.[\w-]*/;

/** A query as a line of the history; null for what is not kept: secrets, what begins with a blank, what is too long. */
export function entryOf(query: string): string | null {
  // A string cannot hold a line break, so a blank in its place changes nothing.
  const line = query.trimEnd().replaceAll(/\s*[\r\n]+\s*/g, " ");
  return line === "" || /^\s/.test(line) || line.length > lineCharactersMax || secret.test(line) ? null : line;
}
