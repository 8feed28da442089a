// Finding the trusted key of a signature in a published key set: by kid, and only for the use it is published for.
// Called by whoever verifies: logs, packs.

import { z } from "@hono/zod-openapi";
import { base64Bytes, type Bytes } from "../contract/bytes.ts";
import { publishedKey, type PublishedKey, type PublishedKeys } from "../contract/http-audit.ts";
import { importVerifyKey, kidOf } from "./keys.ts";
import type { ReleaseKeys } from "./release.ts";

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

/** Keys that sign no more, from JSON text. Throws where it is no list of them, each with its end and under its own kid. */
export async function readRetiredKeys(text: string): Promise<PublishedKey[]> {
  const keys = z.array(publishedKey.required({ not_after: true })).parse(JSON.parse(text));
  for (const { kid, spki } of keys) {
    if ((await kidOf(base64Bytes(spki))) !== kid) throw new TypeError(`a retired key stands under another kid: ${kid}`);
  }
  return keys;
}

/** Whether a key signed at `time` (RFC 3339, UTC, milliseconds), as what it signed says. */
export const isInForce = ({ not_before, not_after }: PublishedKey, time: string): boolean =>
  time >= not_before && (not_after === undefined || time <= not_after);

/** The keys whose signatures of releases and channel pointers are believed: retired ones too, until their end, but no revoked one. */
export const believedReleaseKeys = (keys: readonly PublishedKey[]): ReleaseKeys =>
  new Map(
    keys
      .filter(({ use, revoked_at }) => use === "release" && revoked_at === undefined)
      .map(({ kid, spki, not_after }) => [kid, { spki, not_after: not_after ?? null }]),
  );

/** The Ed25519 keys (SPKI DER) that may sign checkpoints. */
export const checkpointKeys = (keys: PublishedKeys): Bytes[] =>
  keys.keys
    .filter(({ use, algorithm }) => use === "checkpoint" && algorithm === "Ed25519")
    .map(({ spki }) => base64Bytes(spki));
