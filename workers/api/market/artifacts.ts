// Artifacts in the marketplace's bucket: their keys, and how they get there. Used by the market routes.

import nodeCrypto from "node:crypto";
import { createInflateRaw, crc32 } from "node:zlib";
import type { PackageManifest } from "../../../shared/contract/http-market.ts";
import {
  walkPackage,
  type ArchiveTools,
  type PackageFile,
  type WalkedPackage,
} from "../../../shared/signing/package-archive.ts";
import { keepStreamed } from "../keep-streamed.ts";
import { invalidRelease } from "./refusals.ts";

export const artifactKey = (sha256: string): string => `artifact/${sha256}.tar.gz`;

const tools: ArchiveTools = {
  zlib: { createInflateRaw, crc32 },
  newHasher: () => nodeCrypto.createHash("sha256"),
};

/** What was signed of an artifact. */
export interface SignedArtifact {
  readonly manifest: PackageManifest;
  readonly artifact_sha256: string;
  readonly artifact_bytes: number;
}

/** What is inside an artifact that the bucket has. */
export interface KeptArtifact {
  readonly files: readonly PackageFile[];
  readonly unpacked_bytes: number;
}

/**
 * Streams `body` into the bucket under its digest, unless it is there already, as keepStreamed does, with the whole archive
 * walked on the way. When this answers, the artifact is durable. Throws Problem `release_invalid` with the reason, or what
 * `body` or the bucket failed with.
 */
export function keepArtifact(
  bucket: R2Bucket,
  body: ReadableStream<Uint8Array>,
  signed: SignedArtifact,
): Promise<KeptArtifact> {
  const wanted = {
    key: artifactKey(signed.artifact_sha256),
    sha256: signed.artifact_sha256,
    bytes: signed.artifact_bytes,
    contentType: "application/gzip",
  };
  return keepStreamed(bucket, body, wanted, {
    walk: async (archive) => accepted(await walkPackage(archive, tools, { signed: signed.manifest })),
    notTheSigned: () => invalidRelease("the body's size or SHA-256 is not the one that was signed"),
  });
}

function accepted(walked: WalkedPackage): KeptArtifact {
  if (!walked.ok) throw invalidRelease(`the artifact is refused: ${walked.reason}`);
  return { files: walked.files, unpacked_bytes: walked.unpacked_bytes };
}
