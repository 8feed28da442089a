// Artifacts in the marketplace's bucket: their keys, and a look at the manifest inside. Used by the market routes.

import { createTarDecoder } from "modern-tar";
import { concat, utf8Text } from "../../../shared/contract/bytes.ts";
import { packageManifest, type PackageManifest } from "../../../shared/contract/http-market.ts";

export const artifactKey = (sha256: string): string => `artifact/${sha256}.tar.gz`;

const manifestBytesMax = 64 * 1024;

export type ManifestInside =
  | { readonly ok: true; readonly manifest: PackageManifest }
  | { readonly ok: false; readonly reason: string };

/** `maestro.json`, which must be the artifact's first entry, so that a look costs one block and not the whole archive. */
export async function readFirstManifest(bucket: R2Bucket, sha256: string): Promise<ManifestInside> {
  const object = await bucket.get(artifactKey(sha256));
  if (object === null) return { ok: false, reason: "the artifact is not in the marketplace" };
  const entries = object.body.pipeThrough(new DecompressionStream("gzip")).pipeThrough(createTarDecoder()).getReader();
  try {
    const first = await entries.read();
    if (first.done || first.value.header.name !== "maestro.json" || first.value.header.type !== "file") {
      return { ok: false, reason: "maestro.json is not the archive's first entry" };
    }
    if (first.value.header.size > manifestBytesMax)
      return { ok: false, reason: `maestro.json is over ${manifestBytesMax} bytes` };
    const chunks: Uint8Array[] = [];
    for await (const chunk of first.value.body) chunks.push(chunk);
    const parsed = packageManifest.safeParse(JSON.parse(utf8Text(concat(...chunks))));
    if (parsed.success) return { ok: true, manifest: parsed.data };
    const issue = parsed.error.issues[0];
    return { ok: false, reason: `maestro.json: ${issue?.path.join(".") ?? ""}: ${issue?.message ?? "unreadable"}` };
  } catch {
    return { ok: false, reason: "the artifact is not a tar.gz that starts with maestro.json" };
  } finally {
    // The rest of the archive is not read; a reader that failed has nothing left to cancel.
    await entries.cancel().catch(() => undefined);
  }
}
