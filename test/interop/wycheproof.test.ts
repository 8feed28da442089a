// Wycheproof's Ed25519 and P-256 cases through the path by which we verify signatures, read where they stand:
// MAESTRO_VECTORS, else ../shared/vectors. scripts/interop.ts says so where they are absent, and fails where CI requires them.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { hexBytes } from "../../shared/contract/bytes.ts";
import { derFromP1363 } from "../../shared/signing/ecdsa-der.ts";
import { importVerifyKey, verifySignature, type KeyAlgorithmName } from "../../shared/signing/keys.ts";

const folder = join(
  process.env["MAESTRO_VECTORS"] ?? join(import.meta.dirname, "../../../shared/vectors"),
  "wycheproof",
);
const isHere = existsSync(folder);

interface Suite {
  readonly numberOfTests: number;
  readonly testGroups: readonly {
    readonly publicKeyDer: string;
    readonly tests: readonly {
      readonly tcId: number;
      readonly comment: string;
      readonly flags: readonly string[];
      readonly msg: string;
      readonly sig: string;
      readonly result: "valid" | "invalid";
    }[];
  }[];
}

const suiteOf = (name: string): Suite =>
  isHere ? (JSON.parse(readFileSync(join(folder, name), "utf8")) as Suite) : { numberOfTests: 0, testGroups: [] };

const suites: readonly [file: string, algorithm: KeyAlgorithmName, count: number][] = [
  ["ed25519_test.json", "Ed25519", 151],
  ["ecdsa_secp256r1_sha256_test.json", "P-256", 484],
  ["ecdsa_secp256r1_sha256_p1363_test.json", "P-256", 262],
];

/** Signatures of 64 bytes r ‖ s are put into DER as our signers do; others are no such signatures, and stay what they are. */
function encoded(file: string, signature: Uint8Array): Uint8Array {
  return file.includes("p1363") && signature.length === 64 ? derFromP1363(signature) : signature;
}

describe.skipIf(!isHere)("Wycheproof", () => {
  test.each(suites)("%s: every signature is taken or refused as the vectors say", async (file, algorithm, count) => {
    const suite = suiteOf(file);
    const wrong: object[] = [];
    let seen = 0;
    for (const { publicKeyDer, tests } of suite.testGroups) {
      const key = await importVerifyKey(hexBytes(publicKeyDer), algorithm);
      expect(key, publicKeyDer).not.toBeNull();
      for (const { tcId, comment, flags, msg, sig, result } of tests) {
        seen += 1;
        const isValid = await verifySignature(key!, encoded(file, hexBytes(sig)), hexBytes(msg));
        if (isValid !== (result === "valid")) wrong.push({ tcId, comment, flags, result });
      }
    }
    expect(wrong).toEqual([]);
    expect([seen, suite.numberOfTests]).toEqual([count, count]);
  });
});
