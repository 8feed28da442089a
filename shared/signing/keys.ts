// Signing and verifying keys: P-256 (statements, links) and Ed25519 (checkpoints). A worker's compose.ts imports its
// signers from secrets; verifiers import public keys from the published key set.

import { z } from "@hono/zod-openapi";
import { bytesEqual, concat, hexBytes, sha256Hex, toBytes, utf8, type Bytes } from "../contract/bytes.ts";
import { timestamp } from "../contract/names.ts";
import { derFromP1363, p1363FromDer } from "./ecdsa-der.ts";

export type KeyAlgorithmName = "P-256" | "Ed25519";

export interface Signer {
  /** Lower-case hex SHA-256 of `spki`. */
  readonly kid: string;
  readonly algorithm: KeyAlgorithmName;
  /** SubjectPublicKeyInfo DER. */
  readonly spki: Bytes;
  /** DER for P-256 (over SHA-256), 64 raw bytes for Ed25519. */
  sign(bytes: Uint8Array): Promise<Bytes>;
}

const ecdsa = { name: "ECDSA", hash: "SHA-256" } as const;
const importAlgorithms = {
  "P-256": { name: "ECDSA", namedCurve: "P-256" },
  Ed25519: { name: "Ed25519" },
} as const;

// RFC 5480 and RFC 8410: the bytes before the point, which are the same for every key of the algorithm.
const spkiPrefixes: Record<KeyAlgorithmName, Bytes> = {
  "P-256": hexBytes("3059301306072a8648ce3d020106082a8648ce3d03010703420004"),
  Ed25519: hexBytes("302a300506032b6570032100"),
};
const pointBytes: Record<KeyAlgorithmName, number> = { "P-256": 64, Ed25519: 32 };

const scalar = z.string().regex(/^[A-Za-z0-9_-]{43}$/);
// What else a JWK may carry (kid, alg, use, key_ops, ext) says nothing here; `not_before` is read by compose.ts.
const privateKey = {
  "P-256": z.object({ kty: z.literal("EC"), crv: z.literal("P-256"), x: scalar, y: scalar, d: scalar }),
  Ed25519: z.object({ kty: z.literal("OKP"), crv: z.literal("Ed25519"), x: scalar, d: scalar }),
};

function base64UrlBytes(text: string): Bytes {
  const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(binary, (character) => character.charCodeAt(0));
}

export const kidOf = (spki: Uint8Array): Promise<string> => sha256Hex(spki);

/**
 * A signer from the JSON text of a private JWK. Throws TypeError where the text is no such key or its public half does
 * not belong to its private half; the message never holds key material.
 */
export async function importSigner(jwkText: string, algorithm: KeyAlgorithmName): Promise<Signer> {
  let value: unknown;
  try {
    value = JSON.parse(jwkText);
  } catch {
    throw new TypeError(`the ${algorithm} signing key is not JSON`);
  }
  const parsed = privateKey[algorithm].safeParse(value);
  if (!parsed.success) throw new TypeError(`the ${algorithm} signing key is not a private JWK of that kind`);
  const jwk = parsed.data;
  const point = jwk.kty === "EC" ? concat(base64UrlBytes(jwk.x), base64UrlBytes(jwk.y)) : base64UrlBytes(jwk.x);
  const spki = concat(spkiPrefixes[algorithm], point);
  const key = await crypto.subtle
    .importKey("jwk", { ...jwk }, importAlgorithms[algorithm], false, ["sign"])
    .catch(() => null);
  if (key === null) throw new TypeError(`the ${algorithm} signing key cannot be imported`);
  const sign = async (bytes: Uint8Array): Promise<Bytes> =>
    algorithm === "P-256"
      ? derFromP1363(new Uint8Array(await crypto.subtle.sign(ecdsa, key, toBytes(bytes))))
      : new Uint8Array(await crypto.subtle.sign("Ed25519", key, toBytes(bytes)));
  const probe = utf8("maestro key check");
  const publicKey = await importVerifyKey(spki, algorithm);
  if (publicKey === null || !(await verifySignature(publicKey, await sign(probe), probe))) {
    throw new TypeError(`the ${algorithm} signing key's halves do not belong together`);
  }
  return { kid: await kidOf(spki), algorithm, spki, sign };
}

/** Since when a key signs: the member `not_before` of its private JWK, RFC 3339. Throws where there is none. */
export const keyNotBefore = (jwkText: string): string =>
  z.object({ not_before: timestamp }).parse(JSON.parse(jwkText)).not_before;

/** The public key in SPKI DER, or null where the bytes are not exactly one of that algorithm. */
export async function importVerifyKey(spki: Uint8Array, algorithm: KeyAlgorithmName): Promise<CryptoKey | null> {
  const prefix = spkiPrefixes[algorithm];
  if (spki.length !== prefix.length + pointBytes[algorithm]) return null;
  if (!bytesEqual(spki.subarray(0, prefix.length), prefix)) return null;
  try {
    return await crypto.subtle.importKey("spki", toBytes(spki), importAlgorithms[algorithm], true, ["verify"]);
  } catch {
    return null; // a point that is not on the curve
  }
}

/** The 32 raw bytes of an Ed25519 key in SPKI DER. Throws TypeError for another kind of key. */
export function ed25519PublicBytes(spki: Uint8Array): Bytes {
  const prefix = spkiPrefixes.Ed25519;
  if (spki.length !== prefix.length + 32 || !bytesEqual(spki.subarray(0, prefix.length), prefix)) {
    throw new TypeError("not an Ed25519 public key");
  }
  return toBytes(spki.subarray(prefix.length));
}

/** The SPKI DER of 32 raw Ed25519 bytes. */
export const ed25519Spki = (raw: Uint8Array): Bytes => concat(spkiPrefixes.Ed25519, raw);

/** `signature` as a `Signer` makes it: DER for P-256, 64 raw bytes for Ed25519. False for everything that does not verify. */
export async function verifySignature(key: CryptoKey, signature: Uint8Array, bytes: Uint8Array): Promise<boolean> {
  if (key.algorithm.name === "Ed25519") {
    return signature.length === 64 && crypto.subtle.verify("Ed25519", key, toBytes(signature), toBytes(bytes));
  }
  if (key.algorithm.name !== "ECDSA") return false;
  const p1363 = p1363FromDer(signature);
  return p1363 !== null && crypto.subtle.verify(ecdsa, key, p1363, toBytes(bytes));
}
