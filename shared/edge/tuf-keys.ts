// Keys and signatures of TUF metadata. A tenant's online keys are derived from the signer's secrets, so that no tenant's
// metadata verifies under another's root; root keys are made on an operator's machine. Called by the signer worker,
// `maestro policy root` and root.ts.

import { z } from "@hono/zod-openapi";
import { base64Bytes, concat, hex, hexBytes, utf8, type Bytes } from "../contract/bytes.ts";
import { ed25519Spki, importVerifyKey, verifySignature } from "../signing/keys.ts";
import {
  keyIdOf,
  signedBytes,
  type OnlineRole,
  type OnlineSigned,
  type RootSigned,
  type TufKey,
  type TufSignature,
} from "./tuf.ts";

export interface TufSigner {
  readonly keyId: string;
  readonly key: TufKey;
  sign(signed: RootSigned | OnlineSigned): Promise<TufSignature>;
}

/** RFC 8410: the bytes before the 32 of an Ed25519 private key in PKCS#8. */
const pkcs8Prefix = hexBytes("302e020100300506032b657004220420");
const seedBytes = 32;

/** A signer from the 32 bytes of an Ed25519 private key. */
export async function tufSignerOf(seed: Uint8Array): Promise<TufSigner> {
  if (seed.length !== seedBytes) throw new TypeError(`an Ed25519 seed has ${seedBytes} bytes, not ${seed.length}`);
  const pkcs8 = concat(pkcs8Prefix, seed);
  // Exported once for its public half, which WebCrypto gives in no other way; the key that signs cannot be exported.
  const open = await crypto.subtle.importKey("pkcs8", pkcs8, "Ed25519", true, ["sign"]);
  const { x } = z.object({ x: z.string() }).parse(await crypto.subtle.exportKey("jwk", open));
  const closed = await crypto.subtle.importKey("pkcs8", pkcs8, "Ed25519", false, ["sign"]);
  const raw = base64Bytes(`${x.replaceAll("-", "+").replaceAll("_", "/")}=`);
  const key: TufKey = { keytype: "ed25519", scheme: "ed25519", keyval: { public: hex(raw) } };
  const keyId = await keyIdOf(key);
  return {
    keyId,
    key,
    sign: async (signed) => ({
      keyid: keyId,
      sig: hex(new Uint8Array(await crypto.subtle.sign("Ed25519", closed, signedBytes(signed)))),
    }),
  };
}

const secretShape = z.object({ kty: z.literal("oct"), k: z.string().regex(/^[A-Za-z0-9_-]{43}$/) });

/** The 32 bytes of a secret, from the JSON text of a JWK of type `oct`. Throws TypeError, which never quotes it. */
export function tufSecret(jwkText: string): Bytes {
  try {
    const { k } = secretShape.parse(JSON.parse(jwkText));
    return base64Bytes(`${k.replaceAll("-", "+").replaceAll("_", "/")}=`);
  } catch {
    throw new TypeError("a TUF secret is not a JWK of type oct with 32 bytes");
  }
}

/**
 * The signer of one role of one tenant. Its seed is HMAC-SHA-256 of role and tenant under the role's secret, which is
 * HKDF-Expand for one block (RFC 5869): the same always, and another for each tenant and role.
 */
export async function tenantSigner(secret: Bytes, role: OnlineRole, tenantId: string): Promise<TufSigner> {
  const key = await crypto.subtle.importKey("raw", secret, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  const info = concat(utf8(`maestro tuf v1/${role}/${tenantId}`), Uint8Array.of(1));
  return await tufSignerOf(new Uint8Array(await crypto.subtle.sign("HMAC", key, info)));
}

/** How many different keys of `keyids` (threshold's measure) have signed. `keys` by id; a key under a foreign id is none. */
export async function countSignatures(
  signed: RootSigned | OnlineSigned,
  signatures: readonly TufSignature[],
  keyIds: readonly string[],
  keys: Readonly<Record<string, TufKey>>,
): Promise<number> {
  const bytes = signedBytes(signed);
  const good = new Set<string>();
  for (const { keyid, sig } of signatures) {
    const key = keys[keyid];
    if (key === undefined || !keyIds.includes(keyid) || good.has(keyid) || (await keyIdOf(key)) !== keyid) continue;
    const imported = await importVerifyKey(ed25519Spki(hexBytes(key.keyval.public)), "Ed25519");
    if (imported !== null && (await verifySignature(imported, hexBytes(sig), bytes))) good.add(keyid);
  }
  return good.size;
}
