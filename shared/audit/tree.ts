// The RFC 6962 Merkle tree: hashing, growing it leaf by leaf, its root, and the verification of proofs. The log's core
// grows it, verifiers recompute it. Reference: RFC 9162 section 2.1 (same tree, clearer algorithms).

import { bytesEqual, toBytes, type Bytes } from "../contract/bytes.ts";

/** Synchronous SHA-256, handed in (node:crypto in workers and on Node): a leaf is hashed inside the transaction that logs it. */
export type Sha256 = (bytes: Uint8Array) => Bytes;

export const hashBytes = 32;

/** What is hashed next is put together here: an array for each hash takes as long as the hash. */
const scratchBytes = 16 * 1024;
const scratch = new Uint8Array(scratchBytes);
const node = new Uint8Array(1 + hashBytes * 2);

/** `parts`: the leaf, in pieces that follow each other. */
export function leafHash(sha256: Sha256, ...parts: readonly Uint8Array[]): Bytes {
  let size = 1;
  for (const part of parts) size += part.length;
  const input = size <= scratchBytes ? scratch.subarray(0, size) : new Uint8Array(size);
  input[0] = 0;
  let at = 1;
  for (const part of parts) {
    input.set(part, at);
    at += part.length;
  }
  return sha256(input);
}

export function nodeHash(sha256: Sha256, left: Uint8Array, right: Uint8Array): Bytes {
  // Of what is no hash, the one before it would show through.
  const input = left.length === hashBytes && right.length === hashBytes ? node : new Uint8Array(node.length);
  input[0] = 1;
  input.set(left, 1);
  input.set(right, 1 + hashBytes);
  return sha256(input);
}

export const emptyRoot = (sha256: Sha256): Bytes => sha256(new Uint8Array(0));

/**
 * The roots of the perfect subtrees that a tree of `size` leaves consists of, largest (leftmost) first: one for each
 * 1-bit of `size`. All that is needed to go on growing.
 */
export interface Frontier {
  size: number;
  hashes: Bytes[];
}

export const emptyFrontier = (): Frontier => ({ size: 0, hashes: [] });

/** Called for each perfect subtree that an append completes: `height` 0 is the leaf itself, `index` counts at that height. */
export type OnNode = (height: number, index: number, hash: Bytes) => void;

/** Adds one leaf in place. Sizes stay below 2^53; halving by division, since shifts are 32-bit. */
export function appendLeafHash(sha256: Sha256, frontier: Frontier, leaf: Bytes, onNode?: OnNode): void {
  let hash = leaf;
  let index = frontier.size;
  let height = 0;
  onNode?.(height, index, hash);
  while (index % 2 === 1) {
    const left = frontier.hashes.pop();
    if (left === undefined) throw new Error("the frontier does not fit its size");
    hash = nodeHash(sha256, left, hash);
    index = (index - 1) / 2;
    height += 1;
    onNode?.(height, index, hash);
  }
  frontier.hashes.push(hash);
  frontier.size += 1;
}

export function rootOf(sha256: Sha256, frontier: Frontier): Bytes {
  const [last, ...larger] = frontier.hashes.toReversed();
  if (last === undefined) return emptyRoot(sha256);
  return larger.reduce((right, left) => nodeHash(sha256, left, right), last);
}

export const frontierBytes = (frontier: Frontier): Bytes => {
  const bytes = new Uint8Array(frontier.hashes.length * hashBytes);
  frontier.hashes.forEach((hash, index) => bytes.set(hash, index * hashBytes));
  return bytes;
};

/** Throws where the bytes do not fit the size. */
export function frontierFrom(size: number, bytes: Uint8Array): Frontier {
  const count = size.toString(2).replaceAll("0", "").length;
  if (!Number.isSafeInteger(size) || size < 0 || bytes.length !== count * hashBytes) {
    throw new Error("the frontier does not fit its size");
  }
  return {
    size,
    hashes: Array.from({ length: count }, (_, at) => toBytes(bytes.subarray(at * hashBytes, (at + 1) * hashBytes))),
  };
}

const isSize = (value: number): boolean => Number.isSafeInteger(value) && value >= 0;
const allHashes = (hashes: readonly Uint8Array[]): boolean => hashes.every((hash) => hash.length === hashBytes);
export const isPowerOfTwo = (value: number): boolean => 2 ** Math.round(Math.log2(value)) === value;
const half = (value: number): number => Math.floor(value / 2);

export interface InclusionClaim {
  readonly index: number;
  readonly size: number;
  readonly leaf: Uint8Array;
  readonly proof: readonly Uint8Array[];
  readonly root: Uint8Array;
}

/** RFC 9162 section 2.1.3.2. False for everything that is not a proof of exactly this claim. */
export function verifyInclusion(sha256: Sha256, claim: InclusionClaim): boolean {
  if (!isSize(claim.index) || !isSize(claim.size) || claim.index >= claim.size) return false;
  if (claim.leaf.length !== hashBytes || !allHashes(claim.proof)) return false;
  let fn = claim.index;
  let sn = claim.size - 1;
  let hash = toBytes(claim.leaf);
  for (const sibling of claim.proof) {
    if (sn === 0) return false;
    if (fn % 2 === 1 || fn === sn) {
      hash = nodeHash(sha256, sibling, hash);
      while (fn % 2 === 0 && fn !== 0) {
        fn = half(fn);
        sn = half(sn);
      }
    } else {
      hash = nodeHash(sha256, hash, sibling);
    }
    fn = half(fn);
    sn = half(sn);
  }
  return sn === 0 && bytesEqual(hash, claim.root);
}

export interface ConsistencyClaim {
  readonly size1: number;
  readonly root1: Uint8Array;
  readonly size2: number;
  readonly root2: Uint8Array;
  readonly proof: readonly Uint8Array[];
}

/**
 * RFC 9162 section 2.1.4.2. `size1` 0 is refused: an empty tree is a prefix of everything, so such a "proof" shows
 * nothing. Equal sizes want equal roots and no proof.
 */
export function verifyConsistency(sha256: Sha256, claim: ConsistencyClaim): boolean {
  const { size1, size2, root1, root2 } = claim;
  if (!isSize(size1) || !isSize(size2) || size1 === 0 || size1 > size2 || !allHashes(claim.proof)) return false;
  if (size1 === size2) return claim.proof.length === 0 && bytesEqual(root1, root2);
  if (claim.proof.length === 0) return false;
  const path = isPowerOfTwo(size1) ? [toBytes(root1), ...claim.proof] : [...claim.proof];
  let fn = size1 - 1;
  let sn = size2 - 1;
  while (fn % 2 === 1) {
    fn = half(fn);
    sn = half(sn);
  }
  const [first, ...rest] = path;
  if (first === undefined) return false;
  let hash1 = toBytes(first);
  let hash2 = toBytes(first);
  for (const node of rest) {
    if (sn === 0) return false;
    if (fn % 2 === 1 || fn === sn) {
      hash1 = nodeHash(sha256, node, hash1);
      hash2 = nodeHash(sha256, node, hash2);
      while (fn % 2 === 0 && fn !== 0) {
        fn = half(fn);
        sn = half(sn);
      }
    } else {
      hash2 = nodeHash(sha256, hash2, node);
    }
    fn = half(fn);
    sn = half(sn);
  }
  return sn === 0 && bytesEqual(hash1, root1) && bytesEqual(hash2, root2);
}
