// A package's tar.gz: read with every bound in force, unpacked into a folder of its own, or made from one. Called by
// `maestro run` and `maestro market pack|publish`. The bytes are someone else's until `readPackage` has answered.

import { createHash } from "node:crypto";
import { constants } from "node:fs";
import { lstat, mkdir, open, readdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { createInflateRaw, crc32, gzipSync } from "node:zlib";
import { packTar } from "modern-tar";
import type { PackageManifest } from "../../shared/contract/http-market.ts";
import { packageEntriesMax } from "../../shared/signing/entry-names.ts";
import {
  manifestName,
  walkPackage,
  type ArchiveTools,
  type PackageContents,
  type WalkOptions,
} from "../../shared/signing/package-archive.ts";
import { Failure, errorCode } from "../failure.ts";

/** The contract's bound on `limits.unpacked_bytes`. */
const unpackedBytesMax = 256 * 1024 * 1024;

const tools: ArchiveTools = { zlib: { createInflateRaw, crc32 }, newHasher: () => createHash("sha256") };

/** The whole archive, walked; throws Failure `verification_failed` at the first thing that may not be in a package. */
async function walk(archive: Uint8Array, options: WalkOptions): Promise<PackageContents> {
  const walked = await walkPackage(oneChunk(archive), tools, options);
  if (walked.ok) return walked;
  throw new Failure("verification_failed", `The package is refused: ${walked.reason}`, {
    advice: "Nothing of it was run. Its publisher has to pack it anew (`maestro market pack`).",
  });
}

async function* oneChunk(archive: Uint8Array): AsyncGenerator<Uint8Array> {
  yield archive;
}

export interface ReadPackage {
  readonly manifest: PackageManifest;
  readonly files: number;
  readonly bytes: number;
}

/**
 * Reads the whole archive without writing: its manifest, and that everything in it may be unpacked under the limit
 * given (before a signature is checked: its own manifest's alone; after it: the signed manifest's too).
 */
export async function readPackage(archive: Uint8Array, unpackedMax: number = unpackedBytesMax): Promise<ReadPackage> {
  const { manifest, files, unpacked_bytes: bytes } = await walk(archive, { unpackedBytesMax: unpackedMax });
  return { manifest, files: files.length, bytes };
}

/** Unpacks into `folder`, which must be new and empty. Files are 0600: nothing in a package is a program by itself. */
export async function unpackPackage(archive: Uint8Array, unpackedMax: number, folder: string): Promise<void> {
  await walk(archive, {
    unpackedBytesMax: unpackedMax,
    async take(name, pieces) {
      const path = join(folder, name);
      await mkdir(dirname(path), { recursive: true, mode: 0o700 });
      // O_EXCL and O_NOFOLLOW: even if a name slipped through, nothing that stands there is opened or followed.
      const handle = await open(
        path,
        constants.O_CREAT | constants.O_EXCL | constants.O_WRONLY | constants.O_NOFOLLOW,
        0o600,
      );
      try {
        await writeFile(handle, pieces);
      } finally {
        await handle.close();
      }
    },
  });
}

const leftOut = new Set([".git", ".hg", ".svn", ".DS_Store"]);

/**
 * A tar.gz of `folder`, byte for byte the same for the same files: sorted names, no times, no owners, no modes of this
 * machine. Version control folders stay out; links and special files are refused.
 */
export async function packFolder(folder: string): Promise<Uint8Array<ArrayBuffer>> {
  const files = await filesInFolder(folder);
  // maestro.json first: the marketplace reads the manifest without unpacking the rest.
  const order = (name: string): string => (name === manifestName ? "" : name);
  files.sort((left, right) => (order(left.name) < order(right.name) ? -1 : 1));
  const archive = await tarGzOf(files);
  await readPackage(archive); // what packs must unpack
  return archive;
}

/** `name`: relative, with slashes. */
export interface FolderFile {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** Every file below the folder, in no order; links and special files are refused, version control folders stay out. */
export const filesInFolder = (folder: string): Promise<FolderFile[]> => filesOf(folder, "", { bytes: 0, count: 0 });

/** The files in their order as a tar.gz without times, owners and modes of this machine. */
export async function tarGzOf(files: readonly FolderFile[]): Promise<Uint8Array<ArrayBuffer>> {
  const tar = await packTar(
    files.map(({ name, bytes }) => ({
      header: { name, size: bytes.length, type: "file" as const, mode: 0o644, mtime: new Date(0), uid: 0, gid: 0 },
      body: bytes,
    })),
  );
  const archive = new Uint8Array(gzipSync(tar, { level: 9 }));
  archive[9] = 255; // RFC 1952: operating system unknown; zlib writes the one it was built for
  return archive;
}

async function filesOf(root: string, below: string, sum: { bytes: number; count: number }): Promise<FolderFile[]> {
  let entries;
  try {
    entries = await readdir(join(root, below), { withFileTypes: true });
  } catch (error) {
    throw new Failure("usage", `The folder ${join(root, below)} cannot be read (${errorCode(error) ?? "unknown"})`);
  }
  const files: FolderFile[] = [];
  for (const entry of entries) {
    if (leftOut.has(entry.name)) continue;
    const name = below === "" ? entry.name : `${below}/${entry.name}`;
    const path = join(root, name);
    if (entry.isDirectory()) {
      files.push(...(await filesOf(root, name, sum)));
      continue;
    }
    if (!entry.isFile()) throw new Failure("usage", `${name} is neither a file nor a folder; a package cannot hold it`);
    sum.count += 1;
    sum.bytes += (await lstat(path)).size;
    if (sum.count > packageEntriesMax)
      throw new Failure("usage", `The folder holds more than ${packageEntriesMax} files`);
    if (sum.bytes > unpackedBytesMax)
      throw new Failure("usage", `The folder holds more than ${unpackedBytesMax} bytes`);
    const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
    try {
      files.push({ name, bytes: await handle.readFile() });
    } finally {
      await handle.close();
    }
  }
  return files;
}
