// Inclusion and consistency proofs out of tiles: the log's object makes them for packs and for whoever asks.

import { toBytes, type Bytes } from "../contract/bytes.ts";
import { tileHeight, tileWidth, widthAt, type Tile } from "./tiles.ts";
import { appendLeafHash, emptyFrontier, hashBytes, isPowerOfTwo, nodeHash, rootOf, type Sha256 } from "./tree.ts";

/** The hashes of a tile at the width asked for; throws where it has none. */
export type ReadTile = (tile: Tile) => Promise<Uint8Array>;

const largestPowerOfTwoBelow = (size: number): number => {
  let power = 1;
  while (power * 2 < size) power *= 2;
  return power;
};

/** A node of a tree of `size` leaves: the root over [start, start + count), with `start` a multiple of its aligned span. */
interface Span {
  readonly start: number;
  readonly count: number;
}

/** Where a span is a perfect aligned subtree, its hash is in a tile or follows from at most 256 hashes of one. */
async function spanHash(sha256: Sha256, read: ReadTile, size: number, { start, count }: Span): Promise<Bytes> {
  if (!isPowerOfTwo(count)) {
    const left = largestPowerOfTwoBelow(count);
    return nodeHash(
      sha256,
      await spanHash(sha256, read, size, { start, count: left }),
      await spanHash(sha256, read, size, { start: start + left, count: count - left }),
    );
  }
  const level = Math.floor(Math.round(Math.log2(count)) / tileHeight);
  const unit = tileWidth ** level;
  const first = start / unit;
  const index = Math.floor(first / tileWidth);
  const hashes = await read({ level, index, width: widthAt(level, index, size) });
  const frontier = emptyFrontier();
  const offset = first - index * tileWidth;
  for (let at = offset; at < offset + count / unit; at += 1) {
    const hash = hashes.subarray(at * hashBytes, (at + 1) * hashBytes);
    if (hash.length !== hashBytes) throw new Error(`tile ${level}/${index} is too short`);
    appendLeafHash(sha256, frontier, toBytes(hash));
  }
  return rootOf(sha256, frontier);
}

/** RFC 9162 section 2.1.3.1: sibling hashes from the leaf up. Throws RangeError unless `index` < `size`. */
export async function inclusionProof(sha256: Sha256, read: ReadTile, index: number, size: number): Promise<Bytes[]> {
  if (!Number.isSafeInteger(index) || index < 0 || index >= size) throw new RangeError("no such leaf in this tree");
  const spans: Span[] = [];
  let start = 0;
  let count = size;
  while (count > 1) {
    const left = largestPowerOfTwoBelow(count);
    if (index < start + left) {
      spans.push({ start: start + left, count: count - left });
      count = left;
    } else {
      spans.push({ start, count: left });
      start += left;
      count -= left;
    }
  }
  const cached = cacheOf(read);
  const hashes: Bytes[] = [];
  for (const span of spans.toReversed()) hashes.push(await spanHash(sha256, cached, size, span));
  return hashes;
}

/** The same for several leaves of one tree; a tile that they share is read once. */
export async function inclusionProofs(
  sha256: Sha256,
  read: ReadTile,
  indexes: readonly number[],
  size: number,
): Promise<Bytes[][]> {
  const cached = cacheOf(read);
  const proofs: Bytes[][] = [];
  for (const index of indexes) proofs.push(await inclusionProof(sha256, cached, index, size));
  return proofs;
}

/** RFC 9162 section 2.1.4.1. Throws RangeError unless 1 <= `size1` <= `size2`. */
export async function consistencyProof(sha256: Sha256, read: ReadTile, size1: number, size2: number): Promise<Bytes[]> {
  if (!Number.isSafeInteger(size1) || size1 < 1 || size1 > size2) throw new RangeError("no such pair of trees");
  const spans: Span[] = [];
  let start = 0;
  let count = size2;
  let known = size1;
  let whole = true;
  while (known < count) {
    const left = largestPowerOfTwoBelow(count);
    if (known <= left) {
      spans.push({ start: start + left, count: count - left });
      count = left;
    } else {
      spans.push({ start, count: left });
      start += left;
      count -= left;
      known -= left;
      whole = false;
    }
  }
  // The verifier knows the root of `size1` itself; of a part of it, it must be told.
  if (!whole) spans.push({ start, count });
  const cached = cacheOf(read);
  const hashes: Bytes[] = [];
  for (const span of spans.toReversed()) hashes.push(await spanHash(sha256, cached, size2, span));
  return hashes;
}

function cacheOf(read: ReadTile): ReadTile {
  const tiles = new Map<string, Uint8Array>();
  return async (tile) => {
    const key = `${tile.level}/${tile.index}`;
    const known = tiles.get(key) ?? (await read(tile));
    tiles.set(key, known);
    return known;
  };
}
