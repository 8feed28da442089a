// What an upload may hold, over HTTP: an archive that a host would refuse to unpack is refused at the door, with the reason,
// and leaves nothing in the bucket.

import { randomBytes } from "node:crypto";
import { gzipSync } from "node:zlib";
import { beforeAll, describe, expect, test } from "vitest";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import { base64, concat, sha256Hex, type Bytes } from "../../shared/contract/bytes.ts";
import type { PackageManifest } from "../../shared/contract/http-market.ts";
import type { Signer } from "../../shared/signing/keys.ts";
import { sampled } from "../support/sampled.ts";
import { gzipOf, hostileArchives, packageParts } from "../support/hostile-archives.ts";
import { contractOf, type Contract } from "../support/openapi.ts";
import { jsonCall, manifestOf, must, newSigner, signRelease, uploadOf } from "../support/publisher.ts";
import { useStack } from "../support/stack.ts";
import { tarOf } from "../support/tar-bytes.ts";

const stack = useStack();
let api: Contract;
let tenant: SeededTenant;
let signer: Signer;

beforeAll(async () => {
  api = await contractOf(stack.apiUrl);
  tenant = await stack.seedTenant("market-archive");
  signer = await newSigner();
  const spki = base64(signer.spki);
  must(201, await api.fetch("/api/market/publisher-keys", jsonCall(tenant.keys.publisher, "POST", { spki })));
});

/** Signs `artifact` and uploads `body`; answers the status, the code, the sentence, and what is in the bucket then. */
async function upload(manifest: PackageManifest, artifact: Bytes, body: Bytes = artifact) {
  const bundle = await signRelease(signer, manifest, artifact);
  const { status, json } = await api.fetch("/api/market/releases", uploadOf(tenant.keys.publisher, bundle, body));
  const kept = await stack.listObjects("artifacts", `artifact/${await sha256Hex(artifact)}`);
  return { status, code: json.code as unknown, detail: String(json.detail), kept };
}
const refused = { status: 422, code: "release_invalid", kept: [] };

describe("an upload is refused and leaves nothing, when its archive has", () => {
  const manifest = manifestOf("market-archive/hostile");

  test.each(sampled(hostileArchives(manifest), 14))("$what", async ({ archive, reason }) => {
    const answer = await upload(manifest, archive);
    expect(answer).toMatchObject(refused);
    expect(answer.detail).toMatch(/^The artifact is refused: /);
    expect(answer.detail).toContain(reason);
  });

  test("another maestro.json than the signed one", async () => {
    const other = gzipOf(tarOf(...packageParts({ ...manifest, privacy_units: 7 })));
    expect(await upload(manifest, other)).toMatchObject({
      ...refused,
      detail: "The artifact is refused: the maestro.json inside is not the manifest that was signed.",
    });
  });
});

describe("a large upload", () => {
  const manifest = manifestOf("market-archive/large", {
    limits: { wall_ms: 10_000, output_bytes: 1_000_000, unpacked_bytes: 64 * 1024 * 1024 },
  });
  const parts = packageParts(manifest);
  const noise = { name: "noise", body: randomBytes(8 * 1024 * 1024) };

  test("with something wrong at its very end leaves nothing either", async () => {
    const link = { name: "link", flag: "2", linkname: "/etc/passwd" };
    const answer = await upload(manifest, new Uint8Array(gzipSync(tarOf(...parts, noise, link), { level: 1 })));
    expect(answer).toMatchObject(refused);
    expect(answer.detail).toContain("holds a symlink");
  });

  test("with something wrong at its start is answered too, not cut off while it is being sent", async () => {
    const link = { name: "link", flag: "2", linkname: "/etc/passwd" };
    const answer = await upload(manifest, new Uint8Array(gzipSync(tarOf(...parts, link, noise), { level: 1 })));
    expect(answer).toMatchObject(refused);
    expect(answer.detail).toContain("holds a symlink");
  });

  test("of a good archive that is not the signed one is refused by its digest, and the signed one is kept", async () => {
    const signed = new Uint8Array(gzipSync(tarOf(...parts, noise), { level: 1 }));
    // Its time, which no checksum covers: a good archive with the same files, but other bytes.
    const other = signed.slice();
    other[4] = other[4]! ^ 1;
    const notSigned = {
      ...refused,
      detail: "The body's size or SHA-256 is not the one that was signed.",
    };
    expect(await upload(manifest, signed, other)).toMatchObject(notSigned);
    expect(await upload(manifest, signed, concat(signed, new Uint8Array(1)))).toMatchObject(refused);
    const { kept } = await upload(manifest, signed);
    expect(kept.length).toBe(1);
    expect(await sha256Hex((await stack.readObject("artifacts", kept[0]!))!)).toBe(await sha256Hex(signed));
  });
});

test("an archive that is in the bucket already is walked there, under the manifest that is signed this time", async () => {
  const manifest = manifestOf("market-archive/kept");
  const artifact = gzipOf(tarOf(...packageParts(manifest)));
  expect((await upload(manifest, artifact)).kept.length).toBe(1);
  const answer = await upload({ ...manifest, version: "2.0.0" }, artifact);
  expect([answer.status, answer.code]).toEqual([422, "release_invalid"]);
  expect(answer.detail).toContain("not the manifest that was signed");
  expect(answer.kept.length).toBe(1);
});

test("the same upload from several sides at once is one object, with the bytes that were signed", async () => {
  const manifest = manifestOf("market-archive/at-once");
  const artifact = gzipOf(tarOf(...packageParts(manifest), { name: "noise", body: randomBytes(500_000) }));
  const answers = await Promise.all(Array.from({ length: 4 }, () => upload(manifest, artifact)));
  expect(answers.map(({ kept }) => kept.length)).toEqual([1, 1, 1, 1]);
  expect(answers.map(({ code }) => code)).not.toContain("release_invalid");
  expect(await sha256Hex((await stack.readObject("artifacts", answers[0]!.kept[0]!))!)).toBe(await sha256Hex(artifact));
});
