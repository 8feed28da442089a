// Finding the trusted key of a signature in a published key set: by kid, and only for the use it is published for.
// Called by whoever verifies: logs, packs.

import { base64Bytes, type Bytes } from "../contract/bytes.ts";
import type { PublishedKey, PublishedKeys } from "../contract/http-audit.ts";
import { importVerifyKey, kidOf } from "./keys.ts";

/** For `verifyBundle`: the P-256 key of that kid and use, or null. A key whose kid is not its digest is no key. */
export function keyFor(keys: PublishedKeys, use: PublishedKey["use"]): (kid: string) => Promise<CryptoKey | null> {
  const imported = new Map<string, CryptoKey | null>();
  return async (kid) => {
    const known = imported.get(kid);
    if (known !== undefined) return known;
    const entry = keys.keys.find((key) => key.kid === kid && key.use === use && key.algorithm === "ECDSA-P256-SHA256");
    const spki = entry === undefined ? null : base64Bytes(entry.spki);
    const key = spki === null || (await kidOf(spki)) !== kid ? null : await importVerifyKey(spki, "P-256");
    imported.set(kid, key);
    return key;
  };
}

/** The Ed25519 keys (SPKI DER) that may sign checkpoints. */
export const checkpointKeys = (keys: PublishedKeys): Bytes[] =>
  keys.keys
    .filter(({ use, algorithm }) => use === "checkpoint" && algorithm === "Ed25519")
    .map(({ spki }) => base64Bytes(spki));
