// A package's tar.gz: read with every bound in force, unpacked into a folder of its own, or made from one. Called by
// `maestro run` and `maestro market pack|publish`. The bytes are someone else's until `readPackage` has answered.

import { constants } from "node:fs";
import { lstat, mkdir, open, readdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { createGunzip, gzipSync } from "node:zlib";
import { createTarDecoder, packTar, type ParsedTarEntry } from "modern-tar";
import { utf8Text } from "../../shared/contract/bytes.ts";
import { artifactBytesMax, packageManifest, type PackageManifest } from "../../shared/contract/http-market.ts";
import { Failure, errorCode, messageOf } from "../failure.ts";
import { SeenNames } from "./entry-names.ts";

export const manifestName = "maestro.json";
const entriesMax = 4_096;
/** Headers, padding and PAX records beside the files' own bytes. */
const overheadBytesMax = 16 * 1024 * 1024;
const manifestBytesMax = 64 * 1024;
/** The contract's bound on `limits.unpacked_bytes`. */
const unpackedBytesMax = 256 * 1024 * 1024;

export interface PackageFile {
  readonly name: string;
  readonly bytes: Uint8Array;
}

const refuse = (why: string): Failure =>
  new Failure("verification_failed", `The package is refused: ${why}`, {
    advice: "Nothing of it was run. Its publisher has to pack it anew (`maestro market pack`).",
  });

/**
 * The files of a tar.gz in their order, one at a time, with nothing written. Throws Failure `verification_failed` at
 * the first thing that is refused: any entry but files and folders, any name that `SeenNames` refuses, more than
 * `unpackedMax` bytes of files, bytes that are no tar.gz. Decompression stops there, so a bomb costs no more than the
 * bound. (Type flags that tar leaves to implementations read as plain files here, never as links or devices.)
 */
export async function* packageFiles(archive: Uint8Array, unpackedMax: number): AsyncGenerator<PackageFile> {
  const seen = new SeenNames();
  const decoder = createTarDecoder({ strict: true });
  // Its failure is looked at when the reader has ended, so it must not count as unhandled until then.
  const fed = feed(archive, unpackedMax + overheadBytesMax, decoder.writable).then(
    () => null,
    (error: unknown) => ({ error }),
  );
  let files = 0;
  let entries = 0;
  try {
    for await (const entry of decoder.readable) {
      entries += 1;
      if (entries > entriesMax) throw refuse(`more than ${entriesMax} entries`);
      const { type, size } = entry.header;
      const raw = entry.header.name;
      if (type !== "file" && type !== "directory")
        throw refuse(`it holds a ${type ?? "strange entry"}; only files and folders may be inside`);
      const name = type === "directory" && raw.endsWith("/") ? raw.slice(0, -1) : raw;
      const refusal = seen.add(name, type === "file" ? "file" : "folder");
      if (refusal !== null) throw refuse(`${refusal}: ${JSON.stringify(name.slice(0, 120))}`);
      if (type === "directory") {
        await entry.body.cancel();
        continue;
      }
      files += size;
      if (files > unpackedMax)
        throw refuse(`its files have more than the ${unpackedMax} bytes that its manifest declares`);
      yield { name, bytes: await bodyOf(entry) };
    }
    const failed = await fed;
    if (failed !== null) throw failed.error;
  } catch (error) {
    if (error instanceof Failure) throw error;
    throw refuse(`it is not a whole tar.gz (${messageOf(error)})`);
  }
}

async function bodyOf(entry: ParsedTarEntry): Promise<Uint8Array> {
  const bytes = new Uint8Array(entry.header.size);
  let at = 0;
  for await (const chunk of entry.body) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  if (at !== bytes.length) throw refuse("it ends inside a file");
  return bytes;
}

/** Gunzips into `sink`, counting: past `bytesMax` the sink is aborted and nothing more is decompressed. */
async function feed(archive: Uint8Array, bytesMax: number, sink: WritableStream<Uint8Array>): Promise<void> {
  const writer = sink.getWriter();
  const gunzip = createGunzip();
  gunzip.end(archive);
  let total = 0;
  try {
    for await (const chunk of gunzip as AsyncIterable<Buffer>) {
      total += chunk.length;
      if (total > bytesMax) throw refuse("it unpacks to far more than its manifest declares");
      await writer.write(chunk);
    }
    await writer.close();
  } catch (error) {
    gunzip.destroy();
    await writer.abort(error).catch(() => undefined); // closed already by the reader
    throw error;
  }
}

export interface ReadPackage {
  readonly manifest: PackageManifest;
  readonly files: number;
  readonly bytes: number;
}

/**
 * Reads the whole archive without writing: its manifest, and that everything in it may be unpacked under the limit
 * given (before a signature is checked: the contract's; after it: the signed manifest's).
 */
export async function readPackage(archive: Uint8Array, unpackedMax: number = unpackedBytesMax): Promise<ReadPackage> {
  if (archive.length > artifactBytesMax) throw refuse(`it has more than ${artifactBytesMax} bytes`);
  let manifest: PackageManifest | null = null;
  let bytes = 0;
  const names = new Set<string>();
  for await (const file of packageFiles(archive, unpackedMax)) {
    names.add(file.name);
    bytes += file.bytes.length;
    if (file.name === manifestName) manifest = parseManifest(file.bytes);
  }
  if (manifest === null) throw refuse(`it has no ${manifestName} at its top`);
  if (!names.has(manifest.entry_point)) throw refuse(`its entry point ${manifest.entry_point} is not inside`);
  if (bytes > manifest.limits.unpacked_bytes) {
    throw refuse(`its files have ${bytes} bytes; its manifest declares ${manifest.limits.unpacked_bytes}`);
  }
  return { manifest, files: names.size, bytes };
}

function parseManifest(bytes: Uint8Array): PackageManifest {
  if (bytes.length > manifestBytesMax) throw refuse(`${manifestName} has more than ${manifestBytesMax} bytes`);
  let value: unknown;
  try {
    value = JSON.parse(utf8Text(bytes));
  } catch (error) {
    throw refuse(`${manifestName} is not JSON (${messageOf(error)})`);
  }
  const parsed = packageManifest.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw refuse(`${manifestName}: ${issue?.path.join(".") ?? ""}: ${issue?.message ?? "unreadable"}`);
}

/** Unpacks into `folder`, which must be new and empty. Files are 0600: nothing in a package is a program by itself. */
export async function unpackPackage(archive: Uint8Array, unpackedMax: number, folder: string): Promise<void> {
  for await (const file of packageFiles(archive, unpackedMax)) {
    const path = join(folder, file.name);
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    // O_EXCL and O_NOFOLLOW: even if a name slipped through, nothing that stands there is opened or followed.
    const handle = await open(
      path,
      constants.O_CREAT | constants.O_EXCL | constants.O_WRONLY | constants.O_NOFOLLOW,
      0o600,
    );
    try {
      await handle.writeFile(file.bytes);
    } finally {
      await handle.close();
    }
  }
}

const leftOut = new Set([".git", ".hg", ".svn", ".DS_Store"]);

/**
 * A tar.gz of `folder`, byte for byte the same for the same files: sorted names, no times, no owners, no modes of this
 * machine. Version control folders stay out; links and special files are refused.
 */
export async function packFolder(folder: string): Promise<Uint8Array<ArrayBuffer>> {
  const files = await filesOf(folder, "", { bytes: 0, count: 0 });
  // maestro.json first: the marketplace reads the manifest without unpacking the rest.
  const order = (name: string): string => (name === "maestro.json" ? "" : name);
  files.sort((left, right) => (order(left.name) < order(right.name) ? -1 : 1));
  const tar = await packTar(
    files.map(({ name, bytes }) => ({
      header: { name, size: bytes.length, type: "file" as const, mode: 0o644, mtime: new Date(0), uid: 0, gid: 0 },
      body: bytes,
    })),
  );
  const archive = new Uint8Array(gzipSync(tar, { level: 9 }));
  archive[9] = 255; // RFC 1952: operating system unknown; zlib writes the one it was built for
  await readPackage(archive); // what packs must unpack
  return archive;
}

async function filesOf(root: string, below: string, sum: { bytes: number; count: number }): Promise<PackageFile[]> {
  let entries;
  try {
    entries = await readdir(join(root, below), { withFileTypes: true });
  } catch (error) {
    throw new Failure("usage", `The folder ${join(root, below)} cannot be read (${errorCode(error) ?? "unknown"})`);
  }
  const files: PackageFile[] = [];
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
    if (sum.count > entriesMax) throw new Failure("usage", `The folder holds more than ${entriesMax} files`);
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
