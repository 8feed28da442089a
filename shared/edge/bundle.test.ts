// Bundles as hostile bytes, as honest ones, and as bytes that were changed on the way.

import { createHash } from "node:crypto";
import { createInflateRaw, crc32, gunzipSync, gzipSync } from "node:zlib";
import fc from "fast-check";
import { packTar } from "modern-tar";
import { describe, expect, test } from "vitest";
import { gzipOf, zeroBomb } from "../../test/support/hostile-archives.ts";
import { bundleManifest, bundleOf, bundleParts } from "../../test/support/bundles.ts";
import { paxPart, paxRecord, tarOf, type TarPart } from "../../test/support/tar-bytes.ts";
import { bundleBounds, checkBundle, type CheckedBundle } from "./bundle.ts";
import { isDeep } from "../../test/support/sampled.ts";

const numRuns = isDeep ? 5_000 : 30;
const tools = { zlib: { createInflateRaw, crc32 }, newHasher: () => createHash("sha256") };
const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

async function* inChunks(bytes: Uint8Array, chunkBytes: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += chunkBytes) yield bytes.subarray(at, at + chunkBytes);
}
const check = (bytes: Uint8Array, chunkBytes = 64 * 1024, bounds = bundleBounds): Promise<CheckedBundle> =>
  checkBundle(inChunks(bytes, chunkBytes), tools, bounds);
/** A bomb is read up to what a bundle may unpack to: a quarter of a gigabyte at full count. */
const bounds = isDeep ? bundleBounds : { ...bundleBounds, tarBytesMax: 32 * 1024 ** 2 };
const good = bundleParts();
const after = (...parts: readonly TarPart[]): Uint8Array => bundleOf([...good, ...parts]);
const manifested = (given: Readonly<Record<string, unknown>>): Uint8Array => bundleOf(bundleParts(given));

const withoutData = good.filter(({ name }) => !name.endsWith("data.json"));
const deepJson = (levels: number): string => `${'{"a":'.repeat(levels)}1${"}".repeat(levels)}`;

describe("a bundle is refused, in chunks of any size, with a reason that says what to do:", () => {
  const refusals: readonly (readonly [what: string, archive: Uint8Array, reason: string])[] = [
    ["a symlink", after({ name: "app/x.rego", flag: "2", linkname: "/etc/passwd" }), "only files and folders"],
    ["a hard link", after({ name: "app/x.rego", flag: "1", linkname: "app/authz.rego" }), "only files and folders"],
    ["a device", after({ name: "app/x.rego", flag: "3" }), "only files and folders"],
    ["a way out of its folder", after({ name: "../x.rego", body: "package app" }), "dot segments"],
    ["a way out behind a slash", after({ name: "/../x.rego", body: "package app" }), "dot segments"],
    ["an absolute path", after({ name: "//etc/x.rego", body: "package app" }), "absolute or foreign"],
    ["a PAX path that leads out", after(paxPart(paxRecord("path", "../x.rego")), { name: "a.rego" }), "dot segments"],
    ["a backslash", after({ name: "app\\x.rego", body: "package app" }), "absolute or foreign"],
    ["the same name twice", after({ name: "app/authz.rego", body: "package app" }), "the same name twice"],
    ["the same name with a slash", after({ name: "/app/authz.rego", body: "package app" }), "the same name twice"],
    ["names that differ by case", after({ name: "app/AUTHZ.rego", body: "package app" }), "differ only by case"],
    ["no manifest", bundleOf(good.slice(1)), "it has no .manifest: add one"],
    ["a manifest in a folder", after({ name: "app/.manifest", body: "{}" }), "stands at the top"],
    ["a manifest that is no JSON", bundleOf([{ name: ".manifest", body: "{" }]), "is not JSON"],
    ["a manifest without a revision", manifested({ revision: "" }), "revision"],
    ["a manifest without roots", manifested({ roots: undefined }), "roots"],
    ["a manifest without a dialect", manifested({ rego_version: undefined }), "v1 dialect"],
    ["the v0 dialect", manifested({ rego_version: 0 }), "v1 dialect"],
    ["one file in the v0 dialect", manifested({ file_rego_versions: { "/app/authz.rego": 0 } }), "v1 dialect"],
    [
      "a file in the v0 dialect, which a second member hides from readers that take the last one",
      bundleOf([
        {
          name: ".manifest",
          body: '{"revision":"r","roots":["app"],"rego_version":1,"file_rego_versions":{"*.rego":0},"file_rego_versions":{}}',
        },
        ...good.slice(1),
      ]),
      'has the name "file_rego_versions" twice',
    ],
    ["a manifest with wasm", manifested({ wasm: [{ entrypoint: "app", module: "policy.wasm" }] }), "ship the Rego"],
    ["a manifest with more", manifested({ more: true }), "more"],
    ["a root with a slash at its end", manifested({ roots: ["app/"] }), "without a slash at either end"],
    ["a root of 17 segments", manifested({ roots: ["app", `x${"/x".repeat(16)}`] }), "at most 16 segments"],
    ...[
      ["another value", '{"app":{"extra":1}}', "app/extra", '{"x":1}'],
      ["the same value", '{"app":{"extra":{"x":[1]}}}', "app/extra", '{"x":[1]}'],
      ["a member of what is no object", '{"app":{"extra":[]}}', "app/extra/deep/er", "{}"],
      ["one more member, and one twice", '{"app":{"extra":{"a":{"b":1}}}}', "app/extra", '{"c":1,"a":{"b":2}}'],
    ].flatMap(([what = "", top = "", folder = "", below = ""]) => {
      const files = [
        { name: "data.json", body: top },
        { name: `${folder}/data.json`, body: below },
      ];
      const reason = `both have data at`;
      return [
        [`data of two files at one place, ${what}`, bundleOf([...withoutData, ...files]), reason],
        [
          `data of two files at one place, the other way round, ${what}`,
          bundleOf([...withoutData, ...files.toReversed()]),
          reason,
        ],
      ] as const;
    }),
    [
      "data that is nested deeper than OPA reads",
      after({ name: "app/deep/data.json", body: deepJson(1_001) }),
      "nested deeper",
    ],
    ["the same root twice", manifested({ roots: ["app", "app"] }), 'roots "app" and "app" overlap'],
    [
      "a root in a root",
      manifested({ roots: ["app/x/y", "zoo", "app-1", "app"] }),
      'roots "app" and "app/x/y" overlap',
    ],
    ["everything and a part", manifested({ roots: ["app", ""] }), 'roots "" and "app" overlap'],
    ["a package under no root", after({ name: "app/b.rego", body: "package other.b" }), 'add "other/b" to the roots'],
    ["a package above its root", manifested({ roots: ["app/authz/deep", "app/allowed"] }), "lies under no root"],
    ["data under no root", after({ name: "data.json", body: '{"other":{"x":1}}' }), 'data at "other", under no root'],
    ["a value where a root lies deeper", manifested({ roots: ["app/authz"] }), 'data at "app/allowed"'],
    ["data that is no object", after({ name: "app/b/data.json", body: "[1]" }), "not a JSON object"],
    ["data that is no JSON", after({ name: "app/b/data.json", body: "{'a':1}" }), "is not JSON"],
    ["data that is not UTF-8", after({ name: "app/b/data.json", body: Uint8Array.of(0x22, 0xff, 0x22) }), "not UTF-8"],
    ["Rego without a package", after({ name: "app/b.rego", body: "allow := true" }), "declares no package"],
    ["Rego that is not UTF-8", after({ name: "app/b.rego", body: Uint8Array.of(0xff) }), "not UTF-8"],
    ["YAML", after({ name: "app/data.yaml", body: "a: 1" }), "data is taken as JSON"],
    ["WebAssembly", after({ name: "policy.wasm", body: "\0asm" }), "leave it out and ship the Rego"],
    ["a delta bundle", bundleOf([{ name: "patch.json", body: "{}" }]), "publish the whole bundle"],
    ["a file that OPA does not read", after({ name: "README.md", body: "x" }), "leave it out"],
    ["nothing but a manifest", bundleOf(good.slice(0, 1)), "there is nothing to publish"],
    ["5,000 entries", after(...Array.from({ length: 5_000 }, (_, at) => ({ name: `d${at}/`, flag: "5" }))), "entries"],
    ["a Rego file of more than 1 MiB", after({ name: "app/b.rego", body: "#".repeat(1024 * 1024 + 1) }), "split it"],
    ["a header that claims 8 GiB", after({ name: "app/b.rego", size: 8 * 1024 ** 3 - 1 }), "split it"],
    [
      "a bomb of twice what it may unpack to",
      zeroBomb(good, (2 * bounds.tarBytesMax) / 1024 ** 2),
      "unpacks to more than",
    ],
    ["a plain tar", tarOf(...good), "it is not gzip"],
    ["two gzip members", new Uint8Array([...bundleOf(good), ...bundleOf(good)]), "behind its gzip member"],
    ["an end that is missing", gzipOf(tarOf(...good).subarray(0, -1024)), "ends too early"],
    ["an entry behind the end", gzipOf(new Uint8Array([...tarOf(...good), ...tarOf(...good)])), "behind its end"],
  ];
  test.each(refusals)("%s", async (_, archive, reason) => {
    const whole = await check(archive, archive.length, bounds);
    expect(whole).toEqual({ ok: false, reason: expect.stringContaining(reason) });
    expect(await check(archive, 37, bounds)).toEqual(whole);
  });

  test("more bytes than it may have, packed or unpacked", async () => {
    const archive = bundleOf(good);
    const tar = tarOf(...good);
    expect(await check(archive, 64, { ...bundleBounds, bundleBytesMax: archive.length - 1 })).toMatchObject({
      reason: `it has more than ${archive.length - 1} bytes: split the policy in two`,
    });
    expect(await check(archive, 64, { ...bundleBounds, tarBytesMax: tar.length - 1 })).toMatchObject({
      reason: `it unpacks to more than ${tar.length - 1} bytes: split the policy in two`,
    });
    const exact = { ...bundleBounds, bundleBytesMax: archive.length, tarBytesMax: tar.length };
    expect((await check(archive, 64, exact)).ok).toBe(true);
  });

  test("more data before its manifest than one file may have", async () => {
    const data = (at: number): TarPart => ({ name: `app/d${at}/data.json`, body: `{"x":"${"x".repeat(600)}"}` });
    const bounds = { ...bundleBounds, dataBytesMax: 1_000 };
    const late = bundleOf([data(1), data(2), ...good]);
    expect(await check(late, 64, bounds)).toMatchObject({ reason: expect.stringContaining("pack .manifest first") });
    expect((await check(after(data(1), data(2)), 64, bounds)).ok).toBe(true);
  });

  test("its end cut off, wherever", async () => {
    const archive = bundleOf(good);
    for (let end = 0; end < archive.length; end += 1)
      expect(await check(archive.subarray(0, end), 200), `cut at ${end}`).toMatchObject({ ok: false });
  });
});

describe("a bundle is taken", () => {
  test("with data of one object in two files, as long as no place has two values, in any order", async () => {
    const files = [
      { name: "data.json", body: '{"app":{"extra":{"a":{"b":1}},"list":[{"a":1}]}}' },
      { name: "app/extra/data.json", body: '{"c":1,"a":{"d":2}}' },
      { name: "app/other/data.json", body: "{}" },
    ];
    for (const order of [files, files.toReversed()])
      expect(await check(bundleOf([...withoutData, ...order]))).toMatchObject({ ok: true });
  });

  test("with more names than are remembered in one file, but not with another file within it", async () => {
    const names = Array.from({ length: 100_001 }, (_, at) => `"n${at}":0`).join();
    const large = { name: "app/data.json", body: `{${names}}` };
    expect(await check(bundleOf([...withoutData, large]))).toMatchObject({ ok: true });
    const within = { name: "app/extra/data.json", body: "{}" };
    const beside = { name: "zoo/data.json", body: "{}" };
    const wide = bundleParts({ roots: ["app", "zoo"] }).filter(({ name }) => !name.endsWith("data.json"));
    expect(await check(bundleOf([...wide, large, beside]))).toMatchObject({ ok: true });
    expect(await check(bundleOf([...wide, large, within]))).toMatchObject({
      ok: false,
      reason: expect.stringContaining("too many names"),
    });
  });

  test("with the digests of its tar.gz and of its tar", async () => {
    const archive = bundleOf(good);
    const tar = tarOf(...good);
    expect(await check(archive)).toEqual({
      ok: true,
      bundle: {
        version: "r1",
        roots: ["app"],
        sha256: sha256(archive),
        bytes: archive.length,
        tar_sha256: sha256(tar),
        tar_bytes: tar.length,
        files: 2,
      },
    });
  });

  test("as a tar library writes it, with folders, and as `opa build` does: a slash first, the manifest last", async () => {
    const entry = (name: string, text: string) => ({
      header: { name, size: text.length, type: "file" as const },
      body: text,
    });
    const files = [
      entry("/data.json", '{"app":{"allowed":["alice"]}}'),
      entry("/app/authz.rego", "package app.authz\n"),
      entry("/.signatures.json", '{"signatures":["x"]}'),
      entry("/.manifest", bundleManifest({ metadata: { built: "by opa" }, wasm: [] })),
    ];
    expect(await check(new Uint8Array(gzipSync(await packTar(files))))).toMatchObject({ ok: true });
    const folders = [
      { name: "./", flag: "5" },
      { name: "app/", flag: "5" },
    ];
    expect(await check(bundleOf([...folders, ...good]))).toMatchObject({ ok: true });
  });

  test("with everything as its root, and with roots beside each other", async () => {
    expect(await check(manifested({ roots: [""] }))).toMatchObject({ ok: true });
    expect(await check(manifested({ roots: ["app/authz", "app/allowed", "app.b", "app-b/c"] }))).toMatchObject({
      ok: true,
    });
  });
});

test("a bundle of which one bit was changed is refused, or has another digest around the same tar", async () => {
  const archive = bundleOf(good);
  const before = await check(archive);
  await fc.assert(
    fc.asyncProperty(fc.nat(archive.length * 8 - 1), async (bit) => {
      const changed = archive.slice();
      changed[bit >> 3]! ^= 1 << (bit & 7);
      const checked = await check(changed);
      // Where it is taken still, the bit was one that inflates to nothing (the gzip header's time, the end of a block).
      const tells = !checked.ok || !before.ok || checked.bundle.sha256 !== before.bundle.sha256;
      const isSameInside = !checked.ok || !before.ok || checked.bundle.tar_sha256 === before.bundle.tar_sha256;
      expect([tells, isSameInside]).toEqual([true, true]);
    }),
    { numRuns },
  );
});

test("whatever the roots, what is taken has no two that overlap and holds every package in one", async () => {
  const segment = fc.constantFrom("a", "b", "c");
  const path = fc.array(segment, { minLength: 1, maxLength: 3 });
  await fc.assert(
    fc.asyncProperty(
      fc.array(path, { minLength: 1, maxLength: 4 }),
      fc.array(path, { maxLength: 3 }),
      async (roots, packages) => {
        const parts: TarPart[] = [
          { name: ".manifest", body: bundleManifest({ roots: roots.map((root) => root.join("/")) }) },
          { name: "x.rego", body: `package ${roots[0]!.join(".")}` },
          ...packages.map((name, at) => ({ name: `p${at}.rego`, body: `package ${name.join(".")}` })),
        ];
        const starts = (shorter: string[], longer: string[]): boolean =>
          `${longer.join("/")}/`.startsWith(`${shorter.join("/")}/`);
        const overlap = roots.some((one, at) => roots.some((other, beside) => at !== beside && starts(one, other)));
        const outside = packages.some((name) => !roots.some((root) => starts(root, name)));
        expect((await check(bundleOf(parts))).ok).toBe(!overlap && !outside);
      },
    ),
    { numRuns },
  );
});

test("the tar's digest is that of the bytes that gunzip gives", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.string({ maxLength: 2_000 }),
      fc.constantFrom(0 as const, 1 as const, 9 as const),
      async (text, level) => {
        const parts = [...good, { name: "app/t/data.json", body: JSON.stringify({ text }) }];
        const archive = new Uint8Array(gzipSync(tarOf(...parts), { level }));
        const checked = await check(archive, 501);
        expect(checked.ok && checked.bundle.tar_sha256).toBe(sha256(gunzipSync(archive)));
      },
    ),
    { numRuns: Math.min(numRuns, 500) },
  );
});
