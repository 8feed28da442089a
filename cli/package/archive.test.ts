// Packages as hostile bytes, and packing as a function of the files alone.

import { mkdirSync, readdirSync, readFileSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { packTar, type TarEntry } from "modern-tar";
import { describe, expect, test } from "vitest";
import { sampled } from "../../test/support/sampled.ts";
import { hostileArchives, packageParts, zeroBomb } from "../../test/support/hostile-archives.ts";
import { manifestOf } from "../../test/support/publisher.ts";
import { Failure } from "../failure.ts";
import { testFolder } from "../testing/host.ts";
import { packFolder, readPackage, unpackPackage } from "./archive.ts";

const limits = { wall_ms: 1000, output_bytes: 1000, unpacked_bytes: 100_000 };
const manifest = {
  name: "tools/sample",
  version: "1.0.0",
  channel: "stable",
  entry_point: "main.mjs",
  permissions: { read_input: true },
  privacy_units: 1,
  limits,
};
const file = (name: string, body = "x", more: Partial<TarEntry["header"]> = {}): TarEntry => ({
  header: { name, size: Buffer.byteLength(body), type: "file", mtime: new Date(0), ...more },
  body,
});
const wellFormed = [file("maestro.json", JSON.stringify(manifest)), file("main.mjs", "export {};")];
const targz = async (...entries: TarEntry[]): Promise<Uint8Array> => new Uint8Array(gzipSync(await packTar(entries)));

/** What is said when `archive` is refused; that nothing was written is checked too. */
async function refusalOf(archive: Uint8Array, unpackedMax = limits.unpacked_bytes): Promise<string> {
  const folder = testFolder();
  const error: unknown = await readPackage(archive, unpackedMax).then(
    () => null,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof Failure)) throw new Error("it was not refused", { cause: error });
  expect(error.exit).toBe("verification_failed");
  await unpackPackage(archive, unpackedMax, join(folder, "inside")).catch(() => undefined);
  expect(readdirSync(folder).filter((name) => name !== "inside")).toEqual([]);
  return error.message;
}

describe("a package is refused", () => {
  test.each([
    ["../out.mjs", "dot segments"],
    ["a/../../out.mjs", "dot segments"],
    ["./main.mjs", "dot segments"],
    ["a//b", "dot segments"],
    ["/etc/cron.d/x", "absolute"],
    ["C:/x", "absolute"],
    ["a\\..\\b", "absolute"],
    ["a/b\u0001", "characters"],
    ["caf\u00e9", "characters"],
    ["con:stream", "characters"],
    ["dot.", "dot"],
    ["a".repeat(256), "longer"],
  ])("for the name %j", async (name, why) => {
    expect(await refusalOf(await targz(...wellFormed, file(name)))).toContain(why);
  });

  test.each(sampled(hostileArchives(manifestOf("tools/sample", { limits })), 24))(
    "for $what",
    async ({ archive, reason }) => {
      expect(await refusalOf(archive)).toContain(reason);
    },
  );

  test("for a name with a NUL in a PAX header", async () => {
    expect(await refusalOf(await targz(...wellFormed, file("a", "x", { pax: { path: "evil\0.txt" } })))).toContain(
      "NUL",
    );
  });

  test("for a PAX header that turns a harmless name into a way out", async () => {
    expect(await refusalOf(await targz(...wellFormed, file("a", "x", { pax: { path: "../a" } })))).toContain(
      "dot segments",
    );
  });

  test.each(["symlink", "link", "fifo", "character-device", "block-device"] as const)(
    "for a %s inside",
    async (type) => {
      const special: TarEntry = {
        header: { name: "special", size: 0, type, linkname: "/etc/passwd", mtime: new Date(0) },
      };
      expect(await refusalOf(await targz(...wellFormed, special))).toContain("only files and folders");
    },
  );

  test("for the same name twice", async () => {
    expect(await refusalOf(await targz(...wellFormed, file("main.mjs", "second")))).toContain("twice");
  });

  test("for names that differ only by case, folders included", async () => {
    expect(await refusalOf(await targz(...wellFormed, file("MAIN.mjs")))).toContain("case");
    expect(await refusalOf(await targz(...wellFormed, file("lib/a"), file("LIB/b")))).toContain("case");
  });

  test("for a file that is a folder elsewhere", async () => {
    expect(await refusalOf(await targz(...wellFormed, file("a"), file("a/b")))).toContain("a file and a folder");
    expect(await refusalOf(await targz(...wellFormed, file("a/b"), file("a")))).toContain("a file and a folder");
  });

  test("for more bytes than declared, in one file or in sum", async () => {
    expect(await refusalOf(await targz(...wellFormed, file("big", "x".repeat(100_001))))).toContain("100000");
    expect(
      await refusalOf(await targz(...wellFormed, file("a", "x".repeat(60_000)), file("b", "x".repeat(60_000)))),
    ).toContain("100000");
  });

  test("for a gzip bomb, without unpacking it", async () => {
    const bomb = zeroBomb(packageParts(manifestOf("tools/sample", { limits })), 128);
    expect(bomb.length).toBeLessThan(300_000);
    expect(await refusalOf(bomb)).toContain("far more");
  });

  test("for a header that claims more bytes than there are", async () => {
    const tar = await packTar([...wellFormed, file("last", "y".repeat(2000))]);
    expect(await refusalOf(new Uint8Array(gzipSync(tar.subarray(0, tar.length - 2048))))).toContain(
      "not a whole tar.gz",
    );
  });

  test("for a changed header", async () => {
    const tar = await packTar(wellFormed);
    tar[3] = 0x51;
    expect(await refusalOf(new Uint8Array(gzipSync(tar)))).toContain("not a whole tar.gz");
  });

  test("for bytes that are no gzip, or a gzip cut short, or nothing", async () => {
    const whole = await targz(...wellFormed);
    expect(await refusalOf(Buffer.from("not a gzip"))).toContain("not a whole tar.gz");
    expect(await refusalOf(whole.subarray(0, whole.length - 20))).toContain("not a whole tar.gz");
    expect(await refusalOf(new Uint8Array())).toContain("refused");
  });

  test("for no manifest, a broken one, an unknown field, a missing entry point", async () => {
    expect(await refusalOf(await targz(file("main.mjs")))).toContain("no maestro.json");
    expect(await refusalOf(await targz(file("maestro.json", "{"), file("main.mjs")))).toContain("not JSON");
    const unknown = file("maestro.json", JSON.stringify({ ...manifest, network: true }));
    expect(await refusalOf(await targz(unknown, file("main.mjs")))).toContain("network");
    expect(await refusalOf(await targz(wellFormed[0]!))).toContain("entry point main.mjs is not inside");
  });
});

describe("packing", () => {
  function sampleFolder(): string {
    const folder = testFolder();
    mkdirSync(join(folder, "lib", "deep"), { recursive: true });
    writeFileSync(join(folder, "maestro.json"), JSON.stringify(manifest));
    writeFileSync(join(folder, "main.mjs"), "export {};\n");
    writeFileSync(join(folder, "lib", "deep", `${"n".repeat(120)}.mjs`), "export const a = 1;\n");
    return folder;
  }

  test("gives the same bytes for the same files, whatever their times and order", async () => {
    const [left, right] = [sampleFolder(), sampleFolder()];
    utimesSync(join(right, "main.mjs"), 1, 1);
    mkdirSync(join(right, ".git"));
    writeFileSync(join(right, ".git", "HEAD"), "ref");
    expect(Buffer.from(await packFolder(left)).equals(Buffer.from(await packFolder(right)))).toBe(true);
  });

  test("unpacks to the files that were packed, long names included", async () => {
    const source = sampleFolder();
    const archive = await packFolder(source);
    const folder = join(testFolder(), "inside");
    await unpackPackage(archive, limits.unpacked_bytes, folder);
    const namesIn = (root: string) => readdirSync(root, { recursive: true, encoding: "utf8" }).toSorted();
    expect(namesIn(folder)).toEqual(namesIn(source));
    for (const name of ["maestro.json", "main.mjs", `lib/deep/${"n".repeat(120)}.mjs`])
      expect(readFileSync(join(folder, name))).toEqual(readFileSync(join(source, name)));
  });

  test("refuses a folder with a link in it", async () => {
    const folder = sampleFolder();
    symlinkSync("/etc/passwd", join(folder, "passwd"));
    await expect(packFolder(folder)).rejects.toThrow("neither a file nor a folder");
  });
});
