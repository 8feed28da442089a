// transparency-dev's inclusion and consistency vectors, read where they stand: MAESTRO_VECTORS, else ../shared/vectors.
// scripts/interop.ts says so where they are absent, and fails where CI requires them.

import { existsSync, globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { verifyConsistency, verifyInclusion } from "../../shared/audit/tree.ts";
import { sha256 } from "../../workers/audit/hashing.ts";

const folder = join(process.env["MAESTRO_VECTORS"] ?? join(import.meta.dirname, "../../../shared/vectors"), "merkle");
const isHere = existsSync(folder);

interface InclusionVector {
  leafIdx: number;
  treeSize: number;
  root: string;
  leafHash: string;
  proof: string[] | null;
  wantErr: boolean;
}
interface ConsistencyVector {
  size1: number;
  size2: number;
  root1: string;
  root2: string;
  proof: string[] | null;
  wantErr: boolean;
}
const bytes = (text: string | null): Uint8Array => new Uint8Array(Buffer.from(text ?? "", "base64"));
const proofOf = (proof: string[] | null): Uint8Array[] => (proof ?? []).map((hash) => bytes(hash));
const vectors = <T>(kind: string): [string, T][] =>
  isHere
    ? globSync(`${kind}/**/*.json`, { cwd: folder }).map((path) => [
        path,
        JSON.parse(readFileSync(join(folder, path), "utf8")) as T,
      ])
    : [];

describe.skipIf(!isHere)("transparency-dev's vectors", () => {
  test("are all here", () => {
    expect(vectors("inclusion")).toHaveLength(98);
    expect(vectors("consistency")).toHaveLength(98);
  });

  test.each(vectors<InclusionVector>("inclusion"))("%s", (_, vector) => {
    const { leafIdx: index, treeSize: size } = vector;
    const claim = { index, size, leaf: bytes(vector.leafHash), proof: proofOf(vector.proof), root: bytes(vector.root) };
    expect(verifyInclusion(sha256, claim)).toBe(!vector.wantErr);
  });

  test.each(vectors<ConsistencyVector>("consistency"))("%s", (_, vector) => {
    const { size1, size2 } = vector;
    const claim = {
      size1,
      size2,
      root1: bytes(vector.root1),
      root2: bytes(vector.root2),
      proof: proofOf(vector.proof),
    };
    // Ours says no where `size1` is 0: whatever the vector says, nothing is shown by it.
    expect(verifyConsistency(sha256, claim)).toBe(!vector.wantErr && size1 > 0);
  });
});
