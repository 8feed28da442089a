// The heads of logs that `maestro audit verify` remembers, in the state folder: one file a head, named by its size, so that
// the largest one counts whichever of two verifications at once ends last. A release before had one file a log, beside that folder: it
// counts until a larger head is there. Called by commands/audit.ts.

import { readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import type { RememberedHead } from "../shared/audit/verify.ts";
import { errorCode, Failure } from "./failure.ts";
import { folderOf, writePrivate } from "./folders.ts";
import type { Host } from "./host.ts";
import { fileNameOf } from "./trusted-keys.ts";

const headShape = z.strictObject({ size: z.int().min(0), root_sha256: z.string().regex(/^[0-9a-f]{64}$/) });

const headsOf = (host: Host, origin: string): string => join(folderOf(host, "state"), "heads", fileNameOf(origin));
const fileOfBefore = (host: Host, origin: string): string => `${headsOf(host, origin)}.json`;
const fileOf = (size: number): string => `${String(size).padStart(20, "0")}.json`;
/** A part that a crash has left is none. */
const isHead = (name: string): boolean => /^\d{20}\.json$/.test(name);

async function names(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).filter(isHead).toSorted();
  } catch (error) {
    if (errorCode(error) === "ENOENT") return [];
    throw unreadable(folder);
  }
}

// To go on without it would be to forget what an attacker wants forgotten.
const unreadable = (path: string): Failure =>
  new Failure("failure", `The remembered head ${path} is not readable`, {
    advice: "Restore it, or remove it and verify as if for the first time.",
  });

/** Null where there is none. */
async function headIn(path: string): Promise<RememberedHead | null> {
  try {
    return headShape.parse(JSON.parse(await readFile(path, "utf8")));
  } catch (error) {
    if (errorCode(error) === "ENOENT") return null;
    throw unreadable(path);
  }
}

/** The largest one; null where none is remembered of this log. Throws Failure where it cannot be read. */
export async function rememberedHead(host: Host, origin: string): Promise<RememberedHead | null> {
  const folder = headsOf(host, origin);
  for (;;) {
    const before = await headIn(fileOfBefore(host, origin));
    const name = (await names(folder)).at(-1);
    if (name === undefined) return before;
    const path = join(folder, name);
    const head = await headIn(path);
    // A larger one has taken its place meanwhile.
    if (head === null) continue;
    if (fileOf(head.size) !== name) throw unreadable(path);
    return before !== null && before.size > head.size ? before : head;
  }
}

/** Durable when it resolves. The memory never goes back: a larger head that is there stays what counts. */
export async function rememberHead(host: Host, origin: string, head: RememberedHead): Promise<void> {
  const folder = headsOf(host, origin);
  const own = fileOf(head.size);
  await writePrivate(join(folder, own), `${JSON.stringify(head)}\n`);
  for (const name of await names(folder)) if (name < own) await rm(join(folder, name), { force: true });
  const before = await headIn(fileOfBefore(host, origin));
  if (before !== null && before.size <= head.size) await rm(fileOfBefore(host, origin), { force: true });
}
