// Where `maestro audit verify` reads a log from: the API, the bucket itself, or a folder laid out like it. None is trusted; the
// verifier in shared/audit decides.

import { constants } from "node:fs";
import { open, readdir } from "node:fs/promises";
import { join } from "node:path";
import { utf8Text } from "../shared/contract/bytes.ts";
import { anchoring, anchoringsMax, type Anchoring } from "../shared/contract/http-audit.ts";
import { anchoringKey, manifestKey, parseRange, segmentKey, type Range } from "../shared/audit/layout.ts";
import { parseLeaf } from "../shared/audit/leaf.ts";
import type { AnchoredHead } from "../shared/audit/anchor-event.ts";
import { tileBytes, tileWidth } from "../shared/audit/tiles.ts";
import type { LogReader } from "../shared/audit/verify.ts";
import type { Api } from "./api.ts";
import type { Bucket } from "./bucket.ts";
import { ApiProblem, errorCode, Failure } from "./failure.ts";
import { writePrivate } from "./folders.ts";

async function orNull<T>(asked: Promise<T>): Promise<T | null> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof ApiProblem && error.status === 404) return null;
    throw error;
  }
}

/** The log as the API serves it. */
export const apiLog = (api: Api): LogReader => ({
  checkpoint: () => orNull(api.checkpoint()),
  ranges: async (after) => (await api.manifests(after)).ranges,
  manifest: (range) => orNull(api.manifest(range)),
  segment: (range) => orNull(api.segment(range)),
  tile: (path) => orNull(api.tile(path)),
  anchorings: async () => (await orNull(api.anchor()))?.anchorings ?? [],
});

/** One copy of an anchoring, as it lies in a bucket or a folder. */
export function parseAnchoring(bytes: Uint8Array): Anchoring {
  try {
    return anchoring.parse(JSON.parse(utf8Text(bytes)));
  } catch {
    throw new Failure("verification_failed", "An anchoring in the log's folder is not readable");
  }
}

/** The size of the tenant's log that an anchoring is about, for the name of its copy; null where it says none. */
function sizeOf({ body }: Anchoring): number | null {
  const leaf = parseLeaf(body);
  return leaf.ok && leaf.event.type === "mc.log.head" ? (leaf.event.attributes as AnchoredHead).tree_size : null;
}

const checkpointName = (tenantId: string): string => `${tenantId}/checkpoint`;

function rangeOf(name: string): Range {
  const range = parseRange(name);
  if (range === null) throw new Failure("verification_failed", "The log names a range that is none");
  return range;
}

/** `reader`, with a copy of all that it reads in `folder`, laid out like the bucket. */
export function mirrored(reader: LogReader, tenantId: string, folder: string): LogReader {
  async function keep<T extends Uint8Array | string>(key: string, content: T | null): Promise<T | null> {
    if (content === null) return null;
    await writePrivate(join(folder, key), content);
    return content;
  }
  return {
    ...reader,
    checkpoint: async () => keep(checkpointName(tenantId), await reader.checkpoint()),
    manifest: async (range) => keep(manifestKey(tenantId, rangeOf(range)), await reader.manifest(range)),
    segment: async (range) => keep(segmentKey(tenantId, rangeOf(range)), await reader.segment(range)),
    anchorings: async () => {
      const anchorings = (await reader.anchorings?.()) ?? [];
      for (const one of anchorings) {
        const size = sizeOf(one);
        if (size !== null) await keep(anchoringKey(tenantId, size), JSON.stringify(one));
      }
      return anchorings;
    },
    ...(reader.tile === undefined
      ? {}
      : { tile: async (path) => keep(`${tenantId}/tile/${path}`, (await reader.tile?.(path)) ?? null) }),
  };
}

/** What a verifier may have to hold of an object in a bucket or a folder, each kind; what the log writes is far smaller. */
const objectBytesMax = {
  segment: 64 * 1024 * 1024,
  manifest: 1024 * 1024,
  anchoring: 1024 * 1024,
  checkpoint: 64 * 1024,
  tile: tileBytes({ level: 0, index: 0, width: tileWidth }),
};
/** A segment is put before its manifest: one without is looked at once more, so long afterwards. */
const sealingMs = 2_000;
const rangesAtOnce = 500;

/**
 * The bucket itself. It holds no served checkpoint, so the newest manifest's counts. A range counts where its manifest or its
 * segment is there, as in a folder.
 */
export function bucketLog(bucket: Bucket, tenantId: string, sleep: (ms: number) => Promise<void>): LogReader {
  const get = {
    manifest: (range: string) => bucket.get(manifestKey(tenantId, rangeOf(range)), objectBytesMax.manifest),
    segment: (range: string) => bucket.get(segmentKey(tenantId, rangeOf(range)), objectBytesMax.segment),
  };
  let listing: { readonly names: AsyncGenerator<string, void>; last: string | null } | null = null;
  return {
    checkpoint: () => Promise.resolve(null),
    async ranges(after) {
      if (listing === null || listing.last !== after)
        listing = { names: rangesIn(bucket, tenantId, after), last: after };
      const ranges: string[] = [];
      while (ranges.length < rangesAtOnce) {
        const next = await listing.names.next();
        if (next.done === true) break;
        ranges.push(next.value);
      }
      listing.last = ranges.at(-1) ?? after;
      return ranges;
    },
    async manifest(range) {
      const found = await get.manifest(range);
      if (found !== null) return found;
      await sleep(sealingMs);
      return await get.manifest(range);
    },
    segment: get.segment,
    async anchorings() {
      const newest: string[] = [];
      for await (const key of bucket.keys(`${tenantId}/anchor/`, null)) {
        newest.push(key);
        if (newest.length > anchoringsMax) newest.shift();
      }
      const found = await Promise.all(newest.toReversed().map((key) => bucket.get(key, objectBytesMax.anchoring)));
      return found.filter((bytes) => bytes !== null).map(parseAnchoring);
    },
    tile: (path) => bucket.get(`${tenantId}/tile/${path}`, objectBytesMax.tile),
  };
}

/** Ranges in order, from the listings of manifests and of segments, which are both in order. */
async function* rangesIn(bucket: Bucket, tenantId: string, after: string | null): AsyncGenerator<string, void> {
  const namesOf = async function* (folder: string, ending: string): AsyncGenerator<string, void> {
    const prefix = `${tenantId}/${folder}/`;
    for await (const key of bucket.keys(prefix, after === null ? null : `${prefix}${after}${ending}`)) {
      const name = key.slice(prefix.length, -ending.length);
      if (key.endsWith(ending) && parseRange(name) !== null) yield name;
    }
  };
  const [manifests, segments] = [namesOf("manifest", ".json"), namesOf("seg", ".parquet")];
  let [manifest, segment] = [await manifests.next(), await segments.next()];
  for (;;) {
    const names = [manifest, segment].flatMap(({ value }) => (value === undefined ? [] : [value]));
    const [name] = names.toSorted();
    if (name === undefined) return;
    yield name;
    if (manifest.value === name) manifest = await manifests.next();
    if (segment.value === name) segment = await segments.next();
  }
}

/** A copy may come from anybody: what is no file (a pipe, a device behind a link) is not waited for, and a large one not held. */
async function readOrNull(path: string, bytesMax: number): Promise<Uint8Array<ArrayBuffer> | null> {
  try {
    const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const found = await file.stat();
      if (!found.isFile()) throw new Failure("verification_failed", `${path} is not a file`);
      if (found.size > bytesMax) throw new Failure("verification_failed", `${path} has more than ${bytesMax} bytes`);
      return new Uint8Array(await file.readFile());
    } finally {
      await file.close();
    }
  } catch (error) {
    if (error instanceof Failure) throw error;
    if (errorCode(error) === "ENOENT") return null;
    throw new Failure("failure", `${path} cannot be read (${errorCode(error) ?? "unknown"})`);
  }
}

async function namesIn(folder: string, ending: string): Promise<string[]> {
  try {
    const names = await readdir(folder);
    return names.filter((name) => name.endsWith(ending)).map((name) => name.slice(0, -ending.length));
  } catch (error) {
    if (errorCode(error) === "ENOENT") return [];
    throw new Failure("failure", `${folder} cannot be read (${errorCode(error) ?? "unknown"})`);
  }
}

/** A copy of the bucket in a folder. A range counts where its manifest or its segment is there: half of one is a gap. */
export function folderLog(folder: string, tenantId: string): LogReader {
  const at = (key: string): string => join(folder, key);
  let names: Promise<string[]> | null = null;
  const allNames = async (): Promise<string[]> => {
    const manifests = await namesIn(at(`${tenantId}/manifest`), ".json");
    const segments = await namesIn(at(`${tenantId}/seg`), ".parquet");
    return [...new Set([...manifests, ...segments])].filter((name) => parseRange(name) !== null).toSorted();
  };
  return {
    async checkpoint() {
      const bytes = await readOrNull(at(checkpointName(tenantId)), objectBytesMax.checkpoint);
      try {
        return bytes === null ? null : utf8Text(bytes);
      } catch (error) {
        if (error instanceof TypeError)
          throw new Failure("verification_failed", "The checkpoint in the folder is not UTF-8");
        throw error;
      }
    },
    async ranges(after) {
      names ??= allNames();
      const all = await names;
      return after === null ? all : all.filter((name) => name > after);
    },
    manifest: (range) => readOrNull(at(manifestKey(tenantId, rangeOf(range))), objectBytesMax.manifest),
    segment: (range) => readOrNull(at(segmentKey(tenantId, rangeOf(range))), objectBytesMax.segment),
    tile: (path) => readOrNull(at(`${tenantId}/tile/${path}`), objectBytesMax.tile),
    async anchorings() {
      const sizes = (await namesIn(at(`${tenantId}/anchor`), ".json")).filter((name) => /^\d{20}$/.test(name));
      const newest = sizes.toSorted().slice(-anchoringsMax).toReversed();
      const files = await Promise.all(
        newest.map((size) => readOrNull(at(anchoringKey(tenantId, Number(size))), objectBytesMax.anchoring)),
      );
      return files.filter((bytes) => bytes !== null).map(parseAnchoring);
    },
  };
}

/** The one tenant whose log is in the folder. */
export async function tenantIn(folder: string): Promise<string> {
  let entries: string[];
  try {
    entries = await readdir(folder);
  } catch (error) {
    throw new Failure("usage", `The folder ${folder} cannot be read (${errorCode(error) ?? "unknown"})`);
  }
  return oneTenant(entries, "folder");
}

/** As `tenantIn`. */
export const tenantInBucket = async (bucket: Bucket): Promise<string> => oneTenant(await bucket.folders(), "bucket");

function oneTenant(entries: readonly string[], where: string): string {
  const tenants = entries.filter((name) => /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(name));
  const [tenant] = tenants;
  if (tenant === undefined || tenants.length > 1) {
    throw new Failure("usage", `The ${where} holds the logs of ${tenants.length} tenants`, {
      advice: "Name one with --tenant.",
    });
  }
  return tenant;
}
