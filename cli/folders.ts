// Where `maestro` keeps things, by the XDG Base Directory Specification 0.8, and how it writes them: private and
// whole. Used by config, cache, publisher key and remembered checkpoints.

import { randomUUID } from "node:crypto";
import type { Stats } from "node:fs";
import { mkdir, open, rename, rm, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, isAbsolute, join } from "node:path";
import { errorCode, Failure } from "./failure.ts";
import type { Host } from "./host.ts";

export type FolderKind = "config" | "cache" | "state";

const variables = { config: "XDG_CONFIG_HOME", cache: "XDG_CACHE_HOME", state: "XDG_STATE_HOME" } as const;
const fallbacks = { config: ".config", cache: ".cache", state: ".local/state" } as const;

export function folderOf(host: Host, kind: FolderKind): string {
  const named = host.env[variables[kind]];
  // "All paths set in these environment variables must be absolute … otherwise … ignore."
  if (named !== undefined && isAbsolute(named)) return join(named, "maestro");
  const home = host.env["HOME"];
  return join(home !== undefined && isAbsolute(home) ? home : homedir(), fallbacks[kind], "maestro");
}

/** Errors of a disk: what they say, by their code. */
export const diskErrors: Readonly<Record<string, string>> = {
  ENOSPC: "the disk is full",
  EDQUOT: "the disk quota is used up",
  EROFS: "the disk is read-only",
  EACCES: "this user may not write there",
  EPERM: "this user may not write there",
  EIO: "the disk reports an error",
  EFBIG: "the file is too large for the disk, or for the limit of this shell (ulimit -f)",
};

/** Errors of a path, in the same way. */
const pathErrors: Readonly<Record<string, string>> = {
  ENOENT: "nothing can be made there",
  ENOTDIR: "a part of the path is a file",
  EISDIR: "it is a folder",
  ENAMETOOLONG: "the name is too long",
  ELOOP: "its links lead round in a circle",
};

/** What another path would not help against. */
const machineErrors: ReadonlySet<string> = new Set(["ENOSPC", "EDQUOT", "EIO", "EFBIG"]);

/** What could not be written, and why: another path would do (exit code 2), or none (1). `code` is the system's. */
export class NotWritten extends Failure {
  override readonly name = "NotWritten";
  readonly code: string;

  constructor(path: string, code: string) {
    const why = diskErrors[code] ?? pathErrors[code];
    const exit = why === undefined || machineErrors.has(code) ? "failure" : "usage";
    super(exit, `${path} cannot be written${why === undefined ? "" : `: ${why}`} (${code})`);
    this.code = code;
  }
}

/** A system's error as what to tell; any other is what it was. */
export function notWritten(path: string, error: unknown): unknown {
  const code = errorCode(error);
  return code === null ? error : new NotWritten(path, code);
}

/**
 * Refuses a place that is something other than a file: what `maestro` writes is put in place by a rename, which would make a
 * file of a device, a pipe or a socket.
 */
export async function requireFilePlace(path: string): Promise<void> {
  const found = await statOrNull(path);
  if (found !== null && !found.isFile()) {
    throw new Failure("usage", `${path} is there already, and is not a file`, {
      advice: "Name a file; it is written whole, and then put in place.",
    });
  }
}

/**
 * Refuses a place where no file can be written. For who has something to do first that cannot be taken back, or takes long. Makes
 * nothing yet.
 */
export async function requireWritable(path: string): Promise<void> {
  await requireFilePlace(path);
  await requireFolderPlace(dirname(path));
}

/** Refuses what is no folder, and none that could be made: the nearest that is there has to take files. */
export async function requireFolderPlace(path: string): Promise<void> {
  const found = await statOrNull(path);
  if (found === null) return await requireFolderPlace(dirname(path));
  if (!found.isDirectory()) throw new Failure("usage", `${path} is there already, and is not a folder`);
  await requireWritableFolder(path);
}

/** Tries it with a file that is taken away again: what `access` says of it is not so for root. */
export async function requireWritableFolder(folder: string): Promise<void> {
  const part = partOf(join(folder, ".maestro"));
  try {
    await writeNew(part, "");
    await rm(part);
  } catch (error) {
    throw notWritten(folder, error);
  }
}

/**
 * Makes a folder (0700), and those above it; one that is there is left as it is. Node's own `recursive` never ends where a file
 * system takes no folders and says ENOENT, as /proc does. Throws Failure where it cannot.
 */
export async function makeFolder(path: string): Promise<void> {
  const found = await statOrNull(path);
  if (found?.isDirectory() === true) return;
  if (found !== null) throw new Failure("usage", `${path} is there already, and is not a folder`);
  const above = dirname(path);
  if (above !== path) await makeFolder(above);
  try {
    await mkdir(path, { mode: 0o700 });
  } catch (error) {
    // Another process was faster.
    if (errorCode(error) !== "EEXIST") throw notWritten(path, error);
  }
}

async function statOrNull(path: string): Promise<Stats | null> {
  try {
    return await stat(path);
  } catch (error) {
    if (errorCode(error) === "ENOENT") return null;
    throw notWritten(path, error);
  }
}

const partOf = (path: string): string => `${path}.${randomUUID()}.part`;

/**
 * Writes `content` for this user only (0600, folders 0700): readers see the old file or the new one, never a part. Durable when it
 * returns. Throws Failure where it cannot; what was there before is there then.
 */
export async function writePrivate(path: string, content: string | Uint8Array): Promise<void> {
  await requireFilePlace(path);
  await makeFolder(dirname(path));
  const part = partOf(path);
  try {
    await writeNew(part, content);
    await rename(part, path).catch(async (error: unknown) => await removeAndThrow(part, error));
  } catch (error) {
    throw notWritten(path, error);
  }
}

/**
 * Writes a file for this user only, durable when it returns, where there was none: EEXIST where there was. Throws the system's
 * error, and leaves no part.
 */
export async function writeNew(path: string, content: string | Uint8Array): Promise<void> {
  const file = await open(path, "wx", 0o600);
  try {
    await file.chmod(0o600);
    await file.writeFile(content);
    await file.sync();
  } catch (error) {
    await removeAndThrow(path, error);
  } finally {
    await file.close();
  }
}

async function removeAndThrow(path: string, error: unknown): Promise<never> {
  await rm(path, { force: true });
  throw error;
}
