// What a key says of the one that takes its place: a statement of the new key, signed by the old one, so that whoever trusts the
// one can come to trust the other without being asked. Made by key rings; read by `maestro` and by the API.

import { z } from "@hono/zod-openapi";
import { base64, base64Bytes } from "../contract/bytes.ts";
import type { SignedBundle } from "../contract/events.ts";
import { keyUses, type PublishedKey } from "../contract/http-audit.ts";
import { timestamp } from "../contract/names.ts";
import { signEnvelope, verifyEnvelope } from "./bundle.ts";
import { importVerifyKey, kidOf, type Signer } from "./keys.ts";
import { statement } from "./statement.ts";

export const endorsementType = "https://maestro-conductor.dev/attestations/key-endorsement/v1";

const predicateShape = z.strictObject({
  uses: z.array(z.enum(keyUses)).min(1),
  algorithm: z.enum(["Ed25519", "ECDSA-P256-SHA256"]),
  spki: z.base64(),
  not_before: timestamp,
});

/** A key as it is endorsed: the same for each of its uses. */
export type EndorsedKey = Pick<PublishedKey, "kid" | "algorithm" | "spki" | "not_before"> & {
  readonly uses: readonly PublishedKey["use"][];
};

export const endorse = (by: Signer, { kid, uses, ...key }: EndorsedKey): Promise<SignedBundle> =>
  signEnvelope(
    by,
    statement({
      subject: [{ name: "key", digest: { sha256: kid } }],
      predicateType: endorsementType,
      predicate: { ...key, uses: [...uses] },
    }),
  );

export type Endorsement =
  | { readonly ok: true; readonly by: string; readonly key: EndorsedKey }
  | { readonly ok: false; readonly reason: string };

/** `keyOf`: the SPKI (DER in base64) of a kid whose word counts, and its algorithm; null for any other. */
export async function readEndorsement(
  bundle: unknown,
  keyOf: (kid: string) => Pick<PublishedKey, "spki" | "algorithm"> | null,
): Promise<Endorsement> {
  const verified = await verifyEnvelope(bundle, async (kid) => {
    const found = keyOf(kid);
    if (found === null) return null;
    const spki = base64Bytes(found.spki);
    if ((await kidOf(spki)) !== kid) return null;
    return await importVerifyKey(spki, found.algorithm === "Ed25519" ? "Ed25519" : "P-256");
  });
  if (!verified.ok) return verified;
  const { subject, predicateType, predicate } = verified.statement;
  const parsed = predicateShape.safeParse(predicate);
  const [named, ...others] = subject;
  if (predicateType !== endorsementType || !parsed.success || named === undefined || others.length > 0)
    return { ok: false, reason: "the signed statement is not one of a key" };
  const kid = await kidOf(base64Bytes(parsed.data.spki));
  if (named.digest.sha256 !== kid) return { ok: false, reason: "the endorsed key stands under another kid" };
  return { ok: true, by: verified.kid, key: { kid, ...parsed.data } };
}

/** The members that an endorsement speaks of. */
export const endorsedKeyOf = (
  signer: Signer,
  uses: readonly PublishedKey["use"][],
  notBefore: string,
): EndorsedKey => ({
  kid: signer.kid,
  algorithm: signer.algorithm === "Ed25519" ? "Ed25519" : "ECDSA-P256-SHA256",
  spki: base64(signer.spki),
  not_before: notBefore,
  uses,
});
