// Deltas by Node's zstd: every tar leads to every other one, and what is no delta makes nothing.

import { createHash } from "node:crypto";
import { constants, gunzipSync, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { expect, test } from "vitest";
import type { Bytes } from "../../shared/contract/bytes.ts";
import { deltaTarBytesMax } from "../../shared/edge/delta.ts";
import { patchTar, tarInside } from "../../shared/edge/patch-tar.ts";
import { bundleOf } from "../../test/support/bundles.ts";
import { tarOf } from "../../test/support/tar-bytes.ts";
import { tarGzOf } from "../package/archive.ts";
import { edgeTools } from "./node-parts.ts";
import { makeDelta } from "./zstd-delta.ts";
import { isDeep } from "../../test/support/sampled.ts";

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
const wantedOf = (tar: Bytes) => ({ tar_sha256: sha256(tar), tar_length: tar.length });

/** Files as a policy has them: names, and bodies that may have much in common. */
const tars = fc
  .array(fc.tuple(fc.stringMatching(/^[a-z]{1,12}$/), fc.uint8Array({ maxLength: 3_000 })), { maxLength: 6 })
  .map((files): Bytes => new Uint8Array(tarOf(...files.map(([name, body]) => ({ name: `${name}.rego`, body })))));

test("a delta between any two tars makes the second of the first, and nothing of any other", async () => {
  await fc.assert(
    fc.asyncProperty(tars, tars, tars, async (from, to, other) => {
      const delta = (await makeDelta(from, to))!;
      const patched = await patchTar(from, delta, wantedOf(to), edgeTools);
      expect(patched.ok && Buffer.from(patched.tar).equals(to)).toBe(true);
      const elsewhere = await patchTar(other, delta, wantedOf(to), edgeTools);
      // Of another base it may make the same by chance, as one that uses none of it does; never anything else.
      expect(!elsewhere.ok || Buffer.from(elsewhere.tar).equals(to)).toBe(true);
    }),
    { numRuns: isDeep ? 60 : 8 },
  );
});

test("bytes that are bent, cut or made up are refused or lead to the tar that was signed for", async () => {
  await fc.assert(
    fc.asyncProperty(
      tars,
      tars,
      fc.nat(),
      fc.integer({ min: 1, max: 255 }),
      fc.nat(),
      async (from, to, at, by, cut) => {
        const delta = (await makeDelta(from, to))!;
        const bent = delta.slice();
        bent[at % bent.length]! ^= by;
        for (const bytes of [bent, delta.slice(0, cut % delta.length), bent.slice().reverse()]) {
          const patched = await patchTar(from, bytes, wantedOf(to), edgeTools);
          expect(patched.ok ? sha256(patched.tar) : patched.refusal.code).toBeOneOf(["bad_delta", sha256(to)]);
        }
      },
    ),
    { numRuns: isDeep ? 60 : 8 },
  );
});

test("a bomb is stopped at the bytes that were signed for, and a window beyond them is not opened", async () => {
  const from: Bytes = new Uint8Array(tarOf({ name: "a.rego", body: "package a" }));
  const inside = zstdCompressSync(new Uint8Array(64 * 1024 * 1024), { params: { [constants.ZSTD_c_windowLog]: 10 } });
  const wide = zstdCompressSync(new Uint8Array(64 * 1024 * 1024), { params: { [constants.ZSTD_c_windowLog]: 27 } });
  for (const [bomb, why] of [
    [inside, "it makes more than 10240 bytes"],
    [wide, "windowTooLarge"],
  ] as const) {
    const wanted = { tar_sha256: "0".repeat(64), tar_length: 10_240 };
    const patched = await patchTar(from, new Uint8Array(bomb), wanted, edgeTools);
    expect(patched).toMatchObject({ ok: false, refusal: { code: "bad_delta", detail: expect.stringContaining(why) } });
  }
});

test("five changed rules in 1.4 MB of tar are a delta of a few hundred bytes", async () => {
  const rule = (at: number, changed: boolean): string => {
    const hash = createHash("sha256").update(`${at}`).digest("hex");
    return `allow if {\n  input.user == "${hash}"\n  input.path == "/api/${at}"${changed ? "\n  input.admin" : ""}\n}\n`;
  };
  const bundle = async (changed: readonly number[]): Promise<Bytes> => {
    const files = Array.from({ length: 12 }, (_, file) => ({
      name: `rules-${file}.rego`,
      bytes: Buffer.from(
        `package app.rules_${file}\n${Array.from({ length: 1_000 }, (_rule, at) => rule(file * 1_000 + at, changed.includes(file * 1_000 + at))).join("")}`,
      ),
    }));
    return await tarGzOf(files);
  };
  const [before, after] = [await bundle([]), await bundle([7, 2_048, 5_000, 9_999, 11_998])];
  const [from, to] = await Promise.all([before, after].map((bytes) => tarInside(bytes, deltaTarBytesMax, edgeTools)));
  const delta = (await makeDelta(from!.ok ? from!.bytes : before, to!.ok ? to!.bytes : after))!;
  expect(gunzipSync(after).length).toBeGreaterThan(1_300_000);
  expect(delta.length).toBeLessThan(600);
  expect(delta.length / after.length).toBeLessThan(0.002);
});

test("of tars that are too large for one window no delta is made", async () => {
  const large: Bytes = new Uint8Array(deltaTarBytesMax + 1);
  const small: Bytes = new Uint8Array(tarOf());
  expect([await makeDelta(large, small), await makeDelta(small, large)]).toEqual([null, null]);
});

test("the tar inside a bundle is read to its bound, and what is no bundle is told", async () => {
  const bundle = bundleOf([{ name: "a.rego", body: "package a" }]);
  const tar = gunzipSync(bundle);
  expect(await tarInside(bundle, tar.length, edgeTools)).toMatchObject({ ok: true, sha256: sha256(tar) });
  expect(await tarInside(bundle, tar.length - 1, edgeTools)).toMatchObject({ ok: false });
  expect(await tarInside(new Uint8Array(40), 1_000, edgeTools)).toMatchObject({ ok: false });
});

test("what is packed here is one text for one tar, and unpacks to it", async () => {
  const tar: Bytes = new Uint8Array(tarOf({ name: "a.rego", body: "package a" }));
  const [one, other] = [await edgeTools.gzip(tar), await edgeTools.gzip(tar)];
  expect(one).toEqual(other);
  expect(await tarInside(one, tar.length, edgeTools)).toMatchObject({ ok: true, sha256: sha256(tar) });
});
