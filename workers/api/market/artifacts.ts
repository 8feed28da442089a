// Artifacts in the marketplace's bucket: their keys, how they get there, and the manifest inside. Used by the market routes.

import { createTarDecoder } from "modern-tar";
import { concat, utf8Text } from "../../../shared/contract/bytes.ts";
import { canonicalJson } from "../../../shared/contract/events.ts";
import { packageManifest, type PackageManifest } from "../../../shared/contract/http-market.ts";
import { Problem } from "../../../shared/contract/problems.ts";
import { invalidRelease } from "./refusals.ts";

export const artifactKey = (sha256: string): string => `artifact/${sha256}.tar.gz`;

const manifestBytesMax = 64 * 1024;
/** What is inflated at most to find the first entry: its header, its extended headers and the manifest. */
const inflatedBytesMax = 256 * 1024;

/**
 * Streams `body` into the bucket under its digest, unless it is there already. R2 refuses bytes that are not the digest's,
 * and the last byte is held back until the manifest inside is the signed one: what is refused leaves nothing behind.
 */
export async function keepArtifact(
  bucket: R2Bucket,
  body: ReadableStream<Uint8Array>,
  signed: { readonly manifest: PackageManifest; readonly artifact_sha256: string; readonly artifact_bytes: number },
): Promise<void> {
  const key = artifactKey(signed.artifact_sha256);
  const stored = await bucket.get(key);
  if (stored !== null) {
    await body.cancel();
    const refusal = refusalOf(await firstManifest(stored.body), signed.manifest);
    if (refusal !== null) throw refusal;
    return;
  }
  const [toBucket, toLook] = body.tee();
  let refusal: Problem | null = null;
  const look = firstManifest(toLook).then((inside) => {
    refusal = refusalOf(inside, signed.manifest);
  });
  const gate = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      if (refusal !== null) throw refusal;
      controller.enqueue(chunk);
    },
    async flush() {
      await look;
      if (refusal !== null) throw refusal;
    },
  });
  const fixed = new FixedLengthStream(signed.artifact_bytes);
  const results = await Promise.allSettled([
    toBucket.pipeThrough(gate).pipeTo(fixed.writable),
    bucket.put(key, fixed.readable, {
      sha256: signed.artifact_sha256,
      onlyIf: new Headers({ "if-none-match": "*" }),
      httpMetadata: { contentType: "application/gzip" },
    }),
    look,
  ]);
  if (refusal !== null) throw refusal as Problem;
  for (const result of results) {
    if (result.status === "fulfilled") continue;
    if (result.reason instanceof Problem) throw result.reason;
    throw new Problem("release_invalid", "The body's size or SHA-256 is not the one that was signed.");
  }
}

type ManifestInside =
  | { readonly ok: true; readonly manifest: PackageManifest }
  | { readonly ok: false; readonly reason: string };

function refusalOf(inside: ManifestInside, signed: PackageManifest): Problem | null {
  if (!inside.ok) return invalidRelease(inside.reason);
  if (canonicalJson(inside.manifest) === canonicalJson(signed)) return null;
  return invalidRelease("maestro.json in the artifact is not the manifest that was signed");
}

/** `maestro.json`, which must be the archive's first entry, so that a look costs a few blocks and not the whole archive. */
async function firstManifest(archive: ReadableStream<Uint8Array>): Promise<ManifestInside> {
  let inflatedBytes = 0;
  const bounded = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      inflatedBytes += chunk.length;
      if (inflatedBytes > inflatedBytesMax) throw new RangeError("the first entry is too far into the archive");
      controller.enqueue(chunk);
    },
  });
  const entries = archive
    .pipeThrough(new DecompressionStream("gzip"))
    .pipeThrough(bounded)
    .pipeThrough(createTarDecoder({ strict: true }))
    .getReader();
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
