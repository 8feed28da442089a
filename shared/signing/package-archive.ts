// Reads a package's tar.gz, once and for all: what this accepts is what the marketplace keeps and what a host unpacks. Called
// by the upload (workers/api/market/artifacts.ts) and by the command line (cli/package/archive.ts). It holds a few pieces
// of the archive at a time, and stops at the first thing that may not be.

import { concat, hex, utf8Text } from "../contract/bytes.ts";
import { canonicalJson } from "../contract/events.ts";
import { artifactBytesMax, packageManifest, type PackageManifest } from "../contract/http-market.ts";
import { ArchiveRefusal } from "./archive-refusal.ts";
import { SeenNames } from "./entry-names.ts";
import { gunzip, type Zlib } from "./gunzip.ts";
import { tarEntries, type TarEntry } from "./tar.ts";

export const manifestName = "maestro.json";
const manifestBytesMax = 64 * 1024;
/** What may be inflated beside the files' own bytes: headers, PAX headers, padding, zeros at the end. */
const overheadBytesMax = 16 * 1024 * 1024;

/** SHA-256 of bytes as they come by. */
export interface Hasher {
  update(bytes: Uint8Array): unknown;
  digest(): Uint8Array | Promise<Uint8Array>;
}

/** What the platform gives: node:zlib and node:crypto, which workerd and Node both have. */
export interface ArchiveTools {
  readonly zlib: Zlib;
  readonly newHasher: () => Hasher;
}

export interface PackageFile {
  readonly path: string;
  readonly bytes: number;
  /** Lower-case hex. */
  readonly sha256: string;
}

export interface PackageContents {
  readonly manifest: PackageManifest;
  /** In byte order of `path`; `maestro.json` among them. */
  readonly files: readonly PackageFile[];
  /** Of all files together. */
  readonly unpacked_bytes: number;
}

export type WalkedPackage =
  | ({ readonly ok: true } & PackageContents)
  /** `reason` is a clause about "it", the archive. */
  | { readonly ok: false; readonly reason: string };

export interface WalkOptions {
  /** The manifest that was signed: an archive with another one inside is refused before its second entry. */
  readonly signed?: PackageManifest;
  /** A bound on the files' bytes beside that of the manifest inside. */
  readonly unpackedBytesMax?: number;
  /**
   * Gets each file as it comes by, and takes all of its pieces, or none; the walk waits for it. What it has got counts only if the walk ends with `ok`: the rest of
   * the archive may be refused yet.
   */
  readonly take?: (path: string, pieces: AsyncIterable<Uint8Array>) => Promise<void>;
}

/**
 * Walks the whole archive. A chunk of it is asked for when the one before was inflated, and at most a few pieces (64 KiB
 * each) wait to be read, so a slow `take` slows the archive's source down. Throws only what `archive` or `take` threw.
 */
export async function walkPackage(
  archive: AsyncIterable<Uint8Array>,
  tools: ArchiveTools,
  options: WalkOptions = {},
): Promise<WalkedPackage> {
  try {
    return { ok: true, ...(await new Walk(tools, options).through(archive)) };
  } catch (error) {
    if (error instanceof ArchiveRefusal) return { ok: false, reason: error.message };
    throw error;
  }
}

class Walk {
  readonly #tools: ArchiveTools;
  readonly #options: WalkOptions;
  readonly #names = new SeenNames();
  readonly #files: PackageFile[] = [];
  #manifest: PackageManifest | null = null;
  /** Of all files whose headers were read. */
  #filesBytes = 0;
  #filesBytesMax = manifestBytesMax;

  constructor(tools: ArchiveTools, options: WalkOptions) {
    this.#tools = tools;
    this.#options = options;
  }

  async through(archive: AsyncIterable<Uint8Array>): Promise<PackageContents> {
    const tar = this.#boundedTar(gunzip(boundedArchive(archive), this.#tools.zlib));
    for await (const entry of tarEntries(tar)) {
      if (this.#manifest === null) {
        if (entry.name !== manifestName || entry.kind !== "file")
          throw new ArchiveRefusal(`it has no ${manifestName} as its first entry`);
        if (entry.bytes > manifestBytesMax)
          throw new ArchiveRefusal(`${manifestName} has more than ${manifestBytesMax} bytes`);
      }
      const refusal = this.#names.add(entry.name, entry.kind);
      if (refusal !== null) throw new ArchiveRefusal(`${refusal}: ${JSON.stringify(entry.name.slice(0, 120))}`);
      if (entry.kind === "file") await this.#takeFile(entry);
    }
    const manifest = this.#manifest;
    if (manifest === null) throw new ArchiveRefusal(`it has no ${manifestName} as its first entry`);
    if (!this.#files.some(({ path }) => path === manifest.entry_point))
      throw new ArchiveRefusal(`its entry point ${manifest.entry_point} is not inside`);
    // Names are ASCII, so the order of characters is that of bytes.
    const files = this.#files.toSorted((left, right) => (left.path < right.path ? -1 : 1));
    return { manifest, files, unpacked_bytes: this.#filesBytes };
  }

  async #takeFile(entry: TarEntry): Promise<void> {
    this.#count(entry.bytes);
    const { take } = this.#options;
    const hasher = this.#tools.newHasher();
    let hashed = 0;
    const pieces = (async function* () {
      for await (const piece of entry.body) {
        hasher.update(piece);
        hashed += piece.length;
        yield piece;
      }
    })();
    if (this.#manifest === null) {
      const bytes = await allOf(pieces);
      this.#manifest = this.#parseManifest(bytes);
      this.#count(0);
      await take?.(entry.name, listed(bytes));
    } else {
      await take?.(entry.name, pieces);
      await drain(pieces);
    }
    if (hashed !== entry.bytes) throw new Error(`a file was left before its end: ${entry.name}`);
    this.#files.push({ path: entry.name, bytes: entry.bytes, sha256: hex(await hasher.digest()) });
  }

  #count(bytes: number): void {
    this.#filesBytes += bytes;
    if (this.#filesBytes > this.#filesBytesMax)
      throw new ArchiveRefusal(`its files have more than the ${this.#filesBytesMax} bytes that its manifest declares`);
  }

  #parseManifest(bytes: Uint8Array): PackageManifest {
    let value: unknown;
    try {
      value = JSON.parse(utf8Text(bytes));
    } catch (error) {
      throw new ArchiveRefusal(
        `${manifestName} is not JSON (${error instanceof Error ? error.message : "unreadable"})`,
      );
    }
    const parsed = packageManifest.safeParse(value);
    if (!parsed.success) {
      const issue = parsed.error.issues[0];
      throw new ArchiveRefusal(`${manifestName}: ${issue?.path.join(".") ?? ""}: ${issue?.message ?? "unreadable"}`);
    }
    const { signed, unpackedBytesMax = Number.POSITIVE_INFINITY } = this.#options;
    if (signed !== undefined && canonicalJson(parsed.data) !== canonicalJson(signed))
      throw new ArchiveRefusal(`the ${manifestName} inside is not the manifest that was signed`);
    this.#filesBytesMax = Math.min(parsed.data.limits.unpacked_bytes, unpackedBytesMax);
    return parsed.data;
  }

  /** Ends a bomb: whatever its entries say, no more is inflated than its files may have, and the overhead. */
  async *#boundedTar(tar: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    let inflated = 0;
    for await (const piece of tar) {
      inflated += piece.length;
      if (inflated > this.#filesBytesMax + overheadBytesMax)
        throw new ArchiveRefusal("it unpacks to far more than its manifest declares");
      yield piece;
    }
  }
}

async function* boundedArchive(archive: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let seen = 0;
  for await (const chunk of archive) {
    seen += chunk.length;
    if (seen > artifactBytesMax) throw new ArchiveRefusal(`it has more than ${artifactBytesMax} bytes`);
    yield chunk;
  }
}

async function* listed(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

async function allOf(pieces: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const kept: Uint8Array[] = [];
  for await (const piece of pieces) kept.push(piece);
  return concat(...kept);
}

async function drain(pieces: AsyncGenerator<Uint8Array>): Promise<void> {
  while ((await pieces.next()).done !== true);
}
