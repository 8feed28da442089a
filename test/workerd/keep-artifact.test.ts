// An upload on its way into the bucket, inside workerd: what is held, what is left behind, and what a failure is told as.

import { env } from "cloudflare:workers";
import nodeCrypto from "node:crypto";
import { createInflateRaw, crc32 } from "node:zlib";
import { reset } from "cloudflare:test";
import { afterEach, beforeAll, expect, test } from "vitest";
import { sha256Hex, type Bytes } from "../../shared/contract/bytes.ts";
import { Problem } from "../../shared/contract/problems.ts";
import { walkPackage } from "../../shared/signing/package-archive.ts";
import { artifactKey, keepArtifact, type SignedArtifact } from "../../workers/api/market/artifacts.ts";
import { tarOf, type TarPart } from "../support/tar-bytes.ts";

const bucket = (env as unknown as { ARTIFACTS: R2Bucket }).ARTIFACTS;
const manifest: SignedArtifact["manifest"] = {
  name: "archive/kept",
  version: "1.0.0",
  channel: "stable",
  entry_point: "main.mjs",
  permissions: { read_input: true },
  privacy_units: 0,
  limits: { wall_ms: 10_000, output_bytes: 1_000_000, unpacked_bytes: 16 * 1024 * 1024 },
  changelog: "",
};
const good: TarPart[] = [
  { name: "maestro.json", body: JSON.stringify(manifest) },
  { name: "main.mjs", body: "export {};" },
];

function noise(byteCount: number): Bytes {
  const bytes = new Uint8Array(byteCount);
  for (let at = 0; at < byteCount; at += 65_536) crypto.getRandomValues(bytes.subarray(at, at + 65_536));
  return bytes;
}

/** Gzipped as it comes, so that a bomb's maker holds little either. */
async function gzipped(...parts: readonly Bytes[]): Promise<Bytes> {
  const { readable, writable } = new CompressionStream("gzip");
  const writer = writable.getWriter();
  const [bytes] = await Promise.all([
    new Response(readable).arrayBuffer(),
    (async () => {
      for (const part of parts) await writer.write(part);
      await writer.close();
    })(),
  ]);
  return new Uint8Array(bytes);
}

const signedOf = async (artifact: Bytes): Promise<SignedArtifact> => ({
  manifest,
  artifact_sha256: await sha256Hex(artifact),
  artifact_bytes: artifact.length,
});

/** `bytes` in chunks of 16 KiB as they are pulled, then `end`; `pulled()` says how many were. */
function bodyOf(bytes: Bytes, end: (controller: ReadableStreamDefaultController) => void = (c) => c.close()) {
  let at = 0;
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      if (at >= bytes.length) {
        end(controller);
        return;
      }
      controller.enqueue(bytes.slice(at, at + 16_384));
      at += 16_384;
    },
  });
  return { body, pulled: () => Math.min(at, bytes.length) };
}

const keys = async (): Promise<string[]> => (await bucket.list()).objects.map(({ key }) => key);
let large: Bytes;
afterEach(() => reset());
beforeAll(async () => {
  large = await gzipped(tarOf(...good, { name: "noise", body: noise(4 * 1024 * 1024) }));
});

test("a good artifact is there when it is answered, with its files told, and a second upload answers the same", async () => {
  const signed = await signedOf(large);
  const kept = await keepArtifact(bucket, bodyOf(large).body, signed);
  expect(kept.files.map(({ path }) => path)).toEqual(["maestro.json", "main.mjs", "noise"]);
  expect(kept.unpacked_bytes).toBe(kept.files.reduce((sum, { bytes }) => sum + bytes, 0));
  const stored = await bucket.get(artifactKey(signed.artifact_sha256));
  expect(await sha256Hex(new Uint8Array(await stored!.arrayBuffer()))).toBe(signed.artifact_sha256);
  expect(await keepArtifact(bucket, bodyOf(large).body, signed)).toEqual(kept);
});

test("a bomb is left early, though its source never ends, and nothing of it is kept", async () => {
  const zeros = new Uint8Array(1024 * 1024);
  const bomb = await gzipped(tarOf(...good), ...Array.from({ length: 256 }, () => zeros));
  const { body, pulled } = bodyOf(bomb, () => undefined);
  const tools = { zlib: { createInflateRaw, crc32 }, newHasher: () => nodeCrypto.createHash("sha256") };
  const walked = await walkPackage(body, tools);
  expect(walked).toEqual({ ok: false, reason: expect.stringContaining("far more than its manifest declares") });
  // 32 MiB of zeros are 32 KiB deflated; a few chunks are on their way.
  expect(pulled()).toBeLessThan(128 * 1024);
  expect(bomb.length).toBeGreaterThan(250_000);
  await expect(keepArtifact(bucket, bodyOf(bomb).body, await signedOf(bomb))).rejects.toThrow("far more");
  expect(await keys()).toEqual([]);
});

test("a refusal is answered when the upload is over: to who is still sending it would be a broken connection", async () => {
  const { body, pulled } = bodyOf(large);
  const signed = { ...(await signedOf(large)), manifest: { ...manifest, privacy_units: 7 } };
  await expect(keepArtifact(bucket, body, signed)).rejects.toThrow("not the manifest that was signed");
  expect(pulled()).toBe(large.length);
});

test.each([
  ["in its last entry", "symlink", { name: "link", flag: "2", linkname: "/etc/passwd" }],
  ["only when all of it was read", "entry point", { name: "no-entry-point" }],
])("what is wrong %s keeps the last chunk, and with it all, out of the bucket", async (_, reason, last) => {
  const parts = [good[0]!, { name: "noise", body: noise(1024 * 1024) }, last];
  const hostile = await gzipped(tarOf(...parts));
  const signed = await signedOf(hostile);
  const watched = watch(signed);
  await expect(keepArtifact(watched.bucket, bodyOf(hostile).body, signed)).rejects.toThrow(reason);
  expect(watched.put()).toBeGreaterThan(0);
  expect(watched.put()).toBeLessThan(hostile.length);
  expect(watched.hasEnded()).toBe(true);
  expect(await keys()).toEqual([]);
});

test("a good archive with another digest, or another size, than was signed is refused as such", async () => {
  const signed = await signedOf(large);
  const sentence = "The body's size or SHA-256 is not the one that was signed.";
  // The time in the gzip header, which no checksum covers.
  const other = large.slice();
  other[4] = other[4]! ^ 1;
  await expect(keepArtifact(bucket, bodyOf(other).body, signed)).rejects.toThrow(sentence);
  for (const by of [-1, 1]) {
    const resized = { ...signed, artifact_bytes: large.length + by };
    await expect(keepArtifact(bucket, bodyOf(large).body, resized)).rejects.toThrow(sentence);
  }
  expect(await keys()).toEqual([]);
});

test("what is signed of size and digest is held against the upload also where the artifact is there already", async () => {
  const signed = await signedOf(large);
  const sentence = "The body's size or SHA-256 is not the one that was signed.";
  await keepArtifact(bucket, bodyOf(large).body, signed);
  for (const by of [-1, 1]) {
    const resized = { ...signed, artifact_bytes: large.length + by };
    await expect(keepArtifact(bucket, bodyOf(large).body, resized)).rejects.toThrow(sentence);
  }
  const other = bodyOf(large.slice(0, -1));
  await expect(keepArtifact(bucket, other.body, signed)).rejects.toThrow(sentence);
  expect(other.pulled()).toBe(large.length - 1);
  const broken = new Error("the client has gone");
  const { body } = bodyOf(large.slice(0, 1024 * 1024), (controller) => controller.error(broken));
  await expect(keepArtifact(bucket, body, signed)).rejects.toBe(broken);
  expect(await keys()).toEqual([artifactKey(signed.artifact_sha256)]);
});

test("an upload that breaks off is thrown as it is, and nothing is kept", async () => {
  const tooLarge = new Problem("too_large", "The body is too large.");
  const { body } = bodyOf(large.slice(0, 1024 * 1024), (controller) => controller.error(tooLarge));
  await expect(keepArtifact(bucket, body, await signedOf(large))).rejects.toBe(tooLarge);
  const shorter = bodyOf(large.slice(0, -9)).body;
  await expect(keepArtifact(bucket, shorter, await signedOf(large))).rejects.toMatchObject({ code: "release_invalid" });
  expect(await keys()).toEqual([]);
});

test("a bucket that fails, early or late, is not told as a fault of the release", async () => {
  const outage = new Error("the bucket is away");
  const signed = await signedOf(large);
  for (const readBytes of [0, 100_000, large.length - 1]) {
    const failing = watch(signed, async (readable) => {
      const reader = readable.getReader();
      for (let read = 0; read < readBytes;) read += (await reader.read()).value?.length ?? readBytes;
      await reader.cancel(outage);
      throw outage;
    });
    await expect(keepArtifact(failing.bucket, bodyOf(large).body, signed)).rejects.toBe(outage);
  }
  expect(await keys()).toEqual([]);
});

test("an artifact that another upload has put meanwhile is kept, and this upload ends well", async () => {
  const signed = await signedOf(large);
  await bucket.put(artifactKey(signed.artifact_sha256), large, { sha256: signed.artifact_sha256 });
  const kept = await keepArtifact(watch(signed).bucket, bodyOf(large).body, signed);
  expect(kept.files.length).toBe(3);
});

/**
 * The bucket as one that has nothing yet: `put()` says how many bytes went into it, `hasEnded()` whether that is over;
 * `instead` stands for its put.
 */
function watch(signed: SignedArtifact, instead?: (readable: ReadableStream<Uint8Array>) => Promise<never>) {
  let bytes = 0;
  let hasEnded = false;
  const put = async (key: string, readable: ReadableStream<Uint8Array>, options: R2PutOptions) => {
    if (instead !== undefined) return await instead(readable);
    const counted = new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        bytes += chunk.length;
        controller.enqueue(chunk);
      },
    });
    const fixed = new FixedLengthStream(signed.artifact_bytes);
    try {
      return await bucket.put(key, readable.pipeThrough(counted).pipeThrough(fixed), options);
    } finally {
      hasEnded = true;
    }
  };
  return { bucket: { head: async () => null, put } as unknown as R2Bucket, put: () => bytes, hasEnded: () => hasEnded };
}
