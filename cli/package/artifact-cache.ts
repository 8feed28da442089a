// Artifacts by their digest, kept in the XDG cache folder. The digest is checked on each read: a cache can be
// written by anything that this user runs. Called by `maestro run`.

import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { sha256Hex } from "../../shared/contract/bytes.ts";
import { errorCode, Failure } from "../failure.ts";
import { folderOf, writePrivate } from "../folders.ts";
import type { Host } from "../host.ts";

export interface CachedArtifact {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly from: "cache" | "network";
}

/** The bytes whose SHA-256 is `sha256`: from the cache, or else from `download`. Others are refused, and not kept. */
export async function artifactOf(
  host: Host,
  sha256: string,
  download: () => Promise<Uint8Array<ArrayBuffer>>,
): Promise<CachedArtifact> {
  const path = join(folderOf(host, "cache"), "artifacts", sha256);
  try {
    const kept = new Uint8Array(await readFile(path));
    if ((await sha256Hex(kept)) === sha256) return { bytes: kept, from: "cache" };
    await rm(path, { force: true });
  } catch (error) {
    if (errorCode(error) !== "ENOENT") throw error;
  }
  const bytes = await download();
  const digest = await sha256Hex(bytes);
  if (digest !== sha256) {
    throw new Failure("verification_failed", "The artifact that came is not the one that was pinned", {
      facts: { expected_sha256: sha256, sha256: digest },
      advice: "Nothing of it was run. Try again; if it stays, tell the operator of the API.",
    });
  }
  await writePrivate(path, bytes);
  return { bytes, from: "network" };
}
