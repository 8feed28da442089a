// Where `maestro` keeps things, by the XDG Base Directory Specification 0.8, and how it writes them: private and
// whole. Used by config, cache, publisher key and remembered checkpoints.

import { randomUUID } from "node:crypto";
import { chmod, mkdir, open, rename, rm, stat } from "node:fs/promises";
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

/**
 * Refuses a place that is something other than a file: what `maestro` writes is put in place by a rename, which would make a
 * file of a device, a pipe or a socket.
 */
export async function requireFilePlace(path: string): Promise<void> {
  const found = await stat(path).catch((error: unknown) => {
    if (errorCode(error) === "ENOENT") return null;
    throw new Failure("usage", `${path} cannot be written (${errorCode(error) ?? "unknown"})`);
  });
  if (found !== null && !found.isFile()) {
    throw new Failure("usage", `${path} is there already, and is not a file`, {
      advice: "Name a file; it is written whole, and then put in place.",
    });
  }
}

/** Writes `content` for this user only (0600, folders 0700): readers see the old file or the new one, never a part. */
export async function writePrivate(path: string, content: string | Uint8Array): Promise<void> {
  await requireFilePlace(path);
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const part = `${path}.${randomUUID()}.part`;
  try {
    const file = await open(part, "wx", 0o600);
    try {
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    await chmod(part, 0o600);
    await rename(part, path);
  } catch (error) {
    await rm(part, { force: true });
    throw error;
  }
}
