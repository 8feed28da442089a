// Artifacts in the marketplace's bucket: their keys, and how they get there. Used by the market routes.

import nodeCrypto from "node:crypto";
import { createInflateRaw, crc32 } from "node:zlib";
import { concat, hex } from "../../../shared/contract/bytes.ts";
import type { PackageManifest } from "../../../shared/contract/http-market.ts";
import {
  walkPackage,
  type ArchiveTools,
  type PackageFile,
  type WalkedPackage,
} from "../../../shared/signing/package-archive.ts";
import { invalidRelease } from "./refusals.ts";

export const artifactKey = (sha256: string): string => `artifact/${sha256}.tar.gz`;

const tools: ArchiveTools = {
  zlib: { createInflateRaw, crc32 },
  newHasher: () => nodeCrypto.createHash("sha256"),
};

const chunkBytes = 64 * 1024;

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
 * Streams `body` into the bucket under its digest, unless it is there already. The whole archive is walked on the way, and
 * its last chunk is held back until everything agrees (digest, size, manifest, every entry): what is refused leaves
 * nothing behind. When this answers, the artifact is durable. Throws Problem `release_invalid` with the reason, or what
 * `body` or the bucket failed with.
 */
export async function keepArtifact(
  bucket: R2Bucket,
  body: ReadableStream<Uint8Array>,
  signed: SignedArtifact,
): Promise<KeptArtifact> {
  const stored = await bucket.get(artifactKey(signed.artifact_sha256));
  if (stored === null) return await receive(bucket, body, signed);
  await drain(body.getReader());
  return accepted(await walkPackage(stored.body, tools, { signed: signed.manifest }));
}

async function receive(
  bucket: R2Bucket,
  body: ReadableStream<Uint8Array>,
  signed: SignedArtifact,
): Promise<KeptArtifact> {
  // Begun with the first chunk that may go: most of what is refused never troubles the bucket.
  let upload = null as Upload | null;
  const put = async (chunk: Uint8Array): Promise<Upload> => {
    upload ??= new Upload(bucket, signed);
    await upload.write(chunk);
    return upload;
  };
  const reader = body.getReader();
  const hasher = tools.newHasher();
  let seen = 0;
  let held: Uint8Array | null = null;
  const taken = async function* (): AsyncGenerator<Uint8Array> {
    for await (const chunk of gathered(reader)) {
      seen += chunk.length;
      if (seen > signed.artifact_bytes) throw notTheSigned();
      hasher.update(chunk);
      yield chunk;
      // The walk asks for more, so it has taken this one: now the one before it may go.
      if (held !== null) await put(held);
      held = chunk;
    }
  };
  try {
    const kept = accepted(await walkPackage(taken(), tools, { signed: signed.manifest }));
    if (held === null || seen !== signed.artifact_bytes || hex(await hasher.digest()) !== signed.artifact_sha256)
      throw notTheSigned();
    await (await put(held)).finish();
    return kept;
  } catch (error) {
    await upload?.abort(error);
    await drain(reader);
    throw error;
  }
}

/** The body in chunks of at least `chunkBytes`, but for the last: its own are of 4 KiB, and each would be a write. */
async function* gathered(reader: ReadableStreamDefaultReader<Uint8Array>): AsyncGenerator<Uint8Array> {
  let pieces: Uint8Array[] = [];
  let bytes = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    pieces.push(value);
    bytes += value.length;
    if (bytes < chunkBytes) continue;
    yield concat(...pieces);
    pieces = [];
    bytes = 0;
  }
  if (bytes > 0) yield concat(...pieces);
}

/** Reads what is left and drops it: to a client that is still sending, an early answer can be a broken connection. */
async function drain(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<void> {
  try {
    while (!(await reader.read()).done);
  } catch {
    // The client has gone, or sends more than it may: what is answered does not depend on it.
  }
}

function accepted(walked: WalkedPackage): KeptArtifact {
  if (!walked.ok) throw invalidRelease(`the artifact is refused: ${walked.reason}`);
  return { files: walked.files, unpacked_bytes: walked.unpacked_bytes };
}

const notTheSigned = () => invalidRelease("the body's size or SHA-256 is not the one that was signed");

/** One object on its way into the bucket: there is none until `finish` has answered. */
class Upload {
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  /** How the bucket's put ended; it never rejects. */
  readonly #end: Promise<{ readonly error: unknown } | null>;
  #isOver = false;

  constructor(bucket: R2Bucket, signed: SignedArtifact) {
    const { readable, writable } = new FixedLengthStream(signed.artifact_bytes);
    this.#writer = writable.getWriter();
    this.#end = bucket
      .put(artifactKey(signed.artifact_sha256), readable, {
        sha256: signed.artifact_sha256,
        onlyIf: new Headers({ "if-none-match": "*" }),
        httpMetadata: { contentType: "application/gzip" },
      })
      .then(
        // Null is fine too: the same bytes were put under this digest a moment ago.
        () => null,
        (error: unknown) => ({ error }),
      )
      .finally(() => {
        this.#isOver = true;
      });
  }

  /** Waits until the bucket has taken the chunk, or has the object already; throws what the bucket failed with. */
  async write(chunk: Uint8Array): Promise<void> {
    if (!this.#isOver) await Promise.race([this.#unlessEnded(this.#writer.write(chunk)), this.#end]);
    if (this.#isOver) await this.#ended();
  }

  async finish(): Promise<void> {
    if (!this.#isOver) await Promise.race([this.#unlessEnded(this.#writer.close()), this.#end]);
    await this.#ended();
  }

  /** Nothing is kept: the bucket refuses a body that ends before its length. */
  async abort(reason: unknown): Promise<void> {
    if (!this.#isOver) await this.#unlessEnded(this.#writer.abort(reason));
    await this.#end;
  }

  async #ended(): Promise<void> {
    const failed = await this.#end;
    if (failed !== null) throw failed.error;
  }

  /** A stream that the bucket has left fails each write; why it left is in `#end`. */
  async #unlessEnded(writing: Promise<void>): Promise<void> {
    await writing.catch(async () => void (await this.#end));
  }
}
