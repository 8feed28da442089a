// Signed statements: an in-toto statement in a DSSE envelope in a Sigstore bundle v0.3, ECDSA P-256 over SHA-256.
// Made by the workers that hold keys and by publishers' CLIs; verified by everyone.
// DSSE: https://github.com/secure-systems-lab/dsse/blob/master/protocol.md

import { base64, base64Bytes, concat, utf8, utf8Text, type Bytes } from "../contract/bytes.ts";
import { canonicalJson, signedBundle, type SignedBundle } from "../contract/events.ts";
import { canonicalText, isTextOf, parseCanonical } from "./canonical.ts";
import { verifySignature, type Signer } from "./keys.ts";
import { inTotoStatement, type Statement } from "./statement.ts";

export const statementPayloadType = "application/vnd.in-toto+json";
export const bundleMediaType = "application/vnd.dev.sigstore.bundle.v0.3+json";

/** The largest statement that is read: 8 MiB of payload. */
export const payloadBytesMax = 8 * 1024 * 1024;

/** DSSE's pre-authentication encoding: what is signed. Lengths are in bytes. */
export function preAuthEncoding(payloadType: string, payload: Uint8Array): Bytes {
  const type = utf8(payloadType);
  return concat(utf8(`DSSEv1 ${type.length} `), type, utf8(` ${payload.length} `), payload);
}

/** Signs the RFC 8785 bytes of `statement`. `signer` must be P-256. */
export async function signStatement(signer: Signer, statement: Statement): Promise<SignedBundle> {
  if (signer.algorithm !== "P-256") throw new TypeError("statements are signed with P-256");
  return await signEnvelope(signer, statement);
}

/** As `signStatement`, by a key of either kind: for what a checkpoint key says of the next one (endorsement.ts). */
export async function signEnvelope(signer: Signer, statement: Statement): Promise<SignedBundle> {
  const payload = utf8(canonicalJson(statement));
  const signature = await signer.sign(preAuthEncoding(statementPayloadType, payload));
  return {
    mediaType: bundleMediaType,
    verificationMaterial: { publicKey: { hint: signer.kid } },
    dsseEnvelope: {
      payloadType: statementPayloadType,
      payload: base64(payload),
      signatures: [{ sig: base64(signature), keyid: signer.kid }],
    },
  };
}

export type BundleVerdict = { ok: true; kid: string; statement: Statement } | { ok: false; reason: string };
type MaybeKey = CryptoKey | null | undefined;

const refused = (reason: string): BundleVerdict => ({ ok: false, reason });

/** As `verifyEnvelope`, of a P-256 key: whatever is signed but endorsements. */
export async function verifyBundle(
  bundle: unknown,
  keyOf: (kid: string) => MaybeKey | Promise<MaybeKey>,
): Promise<BundleVerdict> {
  return await verifyEnvelope(bundle, keyOf, ["ECDSA"]);
}

/**
 * Verifies a bundle that came from anywhere. It must have exactly one meaning: one signature, one key id (also the
 * hint), canonical base64, and a payload that is the RFC 8785 text of a statement (so: no member twice, none unknown).
 * `keyOf` gives the trusted key of a kid; none means refusal. What the statement claims is the caller's to judge.
 */
export async function verifyEnvelope(
  bundle: unknown,
  keyOf: (kid: string) => MaybeKey | Promise<MaybeKey>,
  algorithms: readonly string[] = ["ECDSA", "Ed25519"],
): Promise<BundleVerdict> {
  const parsed = signedBundle.safeParse(bundle);
  if (!parsed.success || !isTextOf(canonicalText(bundle), parsed.data))
    return refused("not a signed bundle of the expected shape");
  const { dsseEnvelope: envelope, verificationMaterial } = parsed.data;
  if (envelope.payloadType !== statementPayloadType) return refused(`the payload type is not ${statementPayloadType}`);
  const [signature, ...others] = envelope.signatures;
  if (signature === undefined || others.length > 0) return refused("a bundle has exactly one signature");
  if (signature.keyid !== verificationMaterial.publicKey.hint) return refused("keyid and hint name different keys");
  if (envelope.payload.length > (payloadBytesMax / 3) * 4) return refused("the payload is too large");
  let payload: Bytes;
  let signatureBytes: Bytes;
  let text: string;
  try {
    payload = base64Bytes(envelope.payload);
    signatureBytes = base64Bytes(signature.sig);
    text = utf8Text(payload);
  } catch {
    return refused("payload or signature is not canonical base64 of what it should be");
  }
  const key = await keyOf(signature.keyid);
  if (key === null || key === undefined) return refused(`the key ${signature.keyid} is not known`);
  if (!algorithms.includes(key.algorithm.name)) return refused(`the key ${signature.keyid} is not for statements`);
  if (!(await verifySignature(key, signatureBytes, preAuthEncoding(statementPayloadType, payload)))) {
    return refused("the signature does not verify");
  }
  const value = parseCanonical(text);
  if (value === undefined) return refused("the payload is not canonical JSON (RFC 8785)");
  const statement = inTotoStatement.safeParse(value);
  if (!statement.success || !isTextOf(text, statement.data)) return refused("the payload is not an in-toto statement");
  return { ok: true, kid: signature.keyid, statement: statement.data };
}
