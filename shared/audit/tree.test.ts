// The tree, its tiles and its proofs, against a second implementation by definition (RFC 6962 section 2.1).

import { describe, expect, test } from "vitest";
import { sha256 } from "../../workers/audit/hashing.ts";
import { base64, base64Bytes, concat, hex, utf8, type Bytes } from "../contract/bytes.ts";
import { openCheckpoint, parseCheckpoint, signCheckpoint, verifierKey } from "./checkpoint.ts";
import { newSigner } from "../../test/simulation/audit-world.ts";
import { parseRange, rangeName } from "./layout.ts";
import { parseProofFile, proofFile } from "./proof-file.ts";
import { consistencyProof, inclusionProof, type ReadTile } from "./proofs.ts";
import { fullTilesBetween, parseTilePath, tilePath, widthAt } from "./tiles.ts";
import {
  appendLeafHash,
  emptyFrontier,
  frontierBytes,
  frontierFrom,
  hashBytes,
  leafHash,
  nodeHash,
  rootOf,
  verifyConsistency,
  verifyInclusion,
} from "./tree.ts";

const leafAt = (index: number): Bytes => leafHash(sha256, utf8(`leaf ${index}`));

function rootByDefinition(leaves: readonly Bytes[]): Bytes {
  if (leaves.length === 0) return sha256(new Uint8Array(0));
  if (leaves.length === 1) return leaves[0]!;
  let split = 1;
  while (split * 2 < leaves.length) split *= 2;
  return nodeHash(sha256, rootByDefinition(leaves.slice(0, split)), rootByDefinition(leaves.slice(split)));
}

const sizeMax = 700;
const leaves = Array.from({ length: sizeMax }, (_, index) => leafAt(index));
const nodes = new Map<string, Bytes>();
const roots: Bytes[] = [];
{
  const frontier = emptyFrontier();
  roots.push(rootOf(sha256, frontier));
  for (const leaf of leaves) {
    appendLeafHash(sha256, frontier, leaf, (height, index, hash) => nodes.set(`${height}/${index}`, hash));
    roots.push(rootOf(sha256, frontier));
  }
}
const read: ReadTile = (tile) => {
  const hashes = new Uint8Array(tile.width * hashBytes);
  for (let at = 0; at < tile.width; at += 1)
    hashes.set(nodes.get(`${tile.level * 8}/${tile.index * 256 + at}`)!, at * hashBytes);
  return Promise.resolve(hashes);
};
const sizes = [1, 2, 3, 5, 8, 100, 255, 256, 257, 300, 511, 512, 513, 699, 700];

describe("the tree", () => {
  test("of any size has the root that RFC 6962 defines, and its empty tree's hash", () => {
    for (const size of sizes) expect(hex(roots[size]!)).toBe(hex(rootByDefinition(leaves.slice(0, size))));
    expect(hex(roots[0]!)).toBe("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    expect(hex(leafHash(sha256, new Uint8Array(0)))).toBe(
      "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    );
  });

  test("goes on from its stored frontier, and from no other", () => {
    const frontier = emptyFrontier();
    for (const leaf of leaves.slice(0, 300)) appendLeafHash(sha256, frontier, leaf);
    const again = frontierFrom(300, frontierBytes(frontier));
    for (const leaf of leaves.slice(300)) appendLeafHash(sha256, again, leaf);
    expect(hex(rootOf(sha256, again))).toBe(hex(roots[700]!));
    expect(() => frontierFrom(301, frontierBytes(frontier))).toThrow("does not fit");
  });
});

describe("proofs", () => {
  test("of inclusion, from tiles, verify for each leaf, and for no other leaf, size or root", async () => {
    for (const size of sizes) {
      for (const index of [0, 1, 2, 3, 99, 254, 255, 256, 300, 511, 512, 699].filter((at) => at < size)) {
        const proof = await inclusionProof(sha256, read, index, size);
        const claim = { index, size, leaf: leaves[index]!, proof, root: roots[size]! };
        expect(verifyInclusion(sha256, claim)).toBe(true);
        expect(verifyInclusion(sha256, { ...claim, leaf: leafAt(index + 1) })).toBe(false);
        expect(verifyInclusion(sha256, { ...claim, root: roots[size - 1]! })).toBe(false);
        expect(verifyInclusion(sha256, { ...claim, index: index + 1 })).toBe(false);
        expect(verifyInclusion(sha256, { ...claim, proof: [...proof, leafAt(0)] })).toBe(false);
        expect(verifyInclusion(sha256, { ...claim, proof: proof.slice(1) })).toBe(proof.length === 0);
      }
    }
    await expect(inclusionProof(sha256, read, 5, 5)).rejects.toThrow(RangeError);
  });

  test("of consistency, from tiles, verify for each pair of sizes, and for no other roots", async () => {
    for (const size1 of sizes) {
      for (const size2 of sizes.filter((size) => size >= size1)) {
        const proof = await consistencyProof(sha256, read, size1, size2);
        const claim = { size1, root1: roots[size1]!, size2, root2: roots[size2]!, proof };
        expect(verifyConsistency(sha256, claim)).toBe(true);
        expect(verifyConsistency(sha256, { ...claim, root1: leafAt(1) })).toBe(false);
        expect(verifyConsistency(sha256, { ...claim, root2: leafAt(1) })).toBe(false);
        expect(verifyConsistency(sha256, { ...claim, proof: [...proof, leafAt(0)] })).toBe(false);
      }
    }
    expect(verifyConsistency(sha256, { size1: 0, root1: roots[0]!, size2: 5, root2: roots[5]!, proof: [] })).toBe(
      false,
    );
    await expect(consistencyProof(sha256, read, 0, 5)).rejects.toThrow(RangeError);
  });
});

describe("names", () => {
  test("of tiles are those of tlog-tiles, with one spelling each", () => {
    expect(tilePath({ level: 0, index: 0, width: 256 })).toBe("0/000");
    expect(tilePath({ level: 0, index: 1_234_067, width: 256 })).toBe("0/x001/x234/067");
    expect(tilePath({ level: 2, index: 5, width: 12 })).toBe("2/005.p/12");
    expect(parseTilePath("0/x001/x234/067")).toEqual({ level: 0, index: 1_234_067, width: 256 });
    for (const path of [
      "0/x000/001",
      "0/1",
      "00/001",
      "0/001.p/256",
      "0/001.p/0",
      "0/001.p/01",
      "7/000",
      "0/../x",
      "0/x001",
    ]) {
      expect(parseTilePath(path)).toBeNull();
    }
  });

  test("of tiles that became full are each named once", () => {
    const paths = [...fullTilesBetween(0, 65_536)].map((tile) => tilePath(tile));
    expect(paths).toHaveLength(257);
    expect(paths.at(-1)).toBe("1/000");
    expect([...fullTilesBetween(255, 256)].map((tile) => tilePath(tile))).toEqual(["0/000"]);
    expect([...fullTilesBetween(256, 511)]).toEqual([]);
    expect(widthAt(0, 1, 300)).toBe(44);
    expect(widthAt(1, 0, 65_536)).toBe(256);
  });

  test("of ranges have one spelling each, and at least one row", () => {
    expect(parseRange(rangeName({ from: 0, to: 10_000 }))).toEqual({ from: 0, to: 10_000 });
    expect(parseRange(rangeName({ from: 5, to: 5 }))).toBeNull();
    expect(parseRange("0-1")).toBeNull();
  });
});

describe("checkpoints", () => {
  const origin = "maestro.test/log/7f0c2d9e-5a53-4d2f-9a0b-2f6a1c9f0001";
  test("open with the log's key and for its origin only; witnesses' lines do no harm, a second or altered one does", async () => {
    const signer = await newSigner("Ed25519");
    const other = await newSigner("Ed25519");
    const note = await signCheckpoint(signer, { origin, size: 700, root: roots[700]! });
    expect(parseCheckpoint(note)).toEqual({ origin, size: 700, root: roots[700] });
    expect(await openCheckpoint(note, origin, [other.spki, signer.spki])).toMatchObject({
      ok: true,
      checkpoint: { size: 700 },
    });
    expect((await openCheckpoint(note, origin, [other.spki])).ok).toBe(false);
    expect((await openCheckpoint(note, `${origin}x`, [signer.spki])).ok).toBe(false);
    // One key signs all tenants' logs, and the name in a signature's line is not signed: another log's note under this log's name.
    const theirs = await signCheckpoint(signer, { origin: `${origin}x`, size: 700, root: roots[700]! });
    const signature = base64Bytes(theirs.trimEnd().split(" ").at(-1)!).subarray(4);
    const keyId = base64Bytes(note.trimEnd().split(" ").at(-1)!).subarray(0, 4);
    const renamed = `${theirs.slice(0, theirs.indexOf("— "))}— ${origin} ${base64(concat(keyId, signature))}\n`;
    expect(await openCheckpoint(renamed, origin, [signer.spki])).toMatchObject({ ok: false });
    const line = note.slice(note.indexOf("— "));
    expect((await openCheckpoint(`${note}— witness.example AAAAAAAAAA==\n`, origin, [signer.spki])).ok).toBe(true);
    expect((await openCheckpoint(note + line, origin, [signer.spki])).ok).toBe(false);
    for (const altered of [
      note.replace("700", "701"),
      note.replace("\n700\n", "\n0700\n"),
      note.replace("\n\n", "\nextension\n\n"),
      note.slice(0, -1),
      note.replace("— ", "- "),
      note.replace(/.=\n$/, "==\n"),
    ]) {
      expect((await openCheckpoint(altered, origin, [signer.spki])).ok).toBe(false);
    }
    expect(await verifierKey(origin, signer.spki)).toMatch(
      /^maestro\.test\/log\/[0-9a-f-]{36}\+[0-9a-f]{8}\+AQ?[A-Za-z0-9+/]+=*$/,
    );
  });
});

describe("proof files", () => {
  test("are read back as they were written, and in no other form", () => {
    const proof = {
      index: 3,
      salt: new Uint8Array(16),
      hashes: leaves.slice(0, 3),
      checkpoint: "origin\n4\nroot\n\n— x y\n",
    };
    const text = proofFile(proof);
    expect(text.startsWith("c2sp.org/tlog-proof@v1\nextra AAAAAAAAAAAAAAAAAAAAAA==\nindex 3\n")).toBe(true);
    expect(parseProofFile(text)).toEqual(proof);
    for (const altered of [
      text.replace("index 3", "index 03"),
      text.replace("@v1", "@v2"),
      text.replace("\n\n", "\nzz\n\n"),
      "",
      "\n\n",
    ]) {
      expect(parseProofFile(altered)).toBeNull();
    }
  });
});
