// Public keys and signatures of certificates: which kinds are taken, how they are written, and the check itself, by WebCrypto.
// Called by the certificate's reader and by path building.
//
// Taken: ECDSA on P-256, P-384 and P-521, RSA of 2,048 to 4,096 bits with an odd exponent of at least 65,537 (PKCS #1 v1.5 and
// PSS), each with SHA-256, SHA-384 or SHA-512; Ed25519. Everything else is refused: MD5, SHA-1, DSA, smaller RSA, P-224, other
// curves, compressed points, X25519.

import { bytesEqual, concat, hex, toBytes } from "../contract/bytes.ts";
import { derTag, readWhole, type DerReader } from "./der.ts";
import { checkedNow, refuse } from "./refusal.ts";

export type CertificateKey =
  | { readonly kind: "EC"; readonly curve: Curve; readonly x: Uint8Array; readonly y: Uint8Array }
  | { readonly kind: "RSA"; readonly modulus: Uint8Array; readonly exponent: Uint8Array }
  | { readonly kind: "Ed25519"; readonly x: Uint8Array };

export type Curve = "P-256" | "P-384" | "P-521";
type Hash = "SHA-256" | "SHA-384" | "SHA-512";

export interface SignatureAlgorithm {
  readonly name: "ECDSA" | "RSASSA-PKCS1-v1_5" | "RSA-PSS" | "Ed25519";
  /** Ed25519 has its own. */
  readonly hash: Hash | null;
}

export const rsaBitsMin = 2_048;
/** More costs a verifier more than a certificate is worth. */
export const rsaBitsMax = 4_096;
const rsaExponentMin = 65_537;
/** As Go. */
const rsaExponentMax = 2 ** 31 - 1;

const curves: Readonly<Record<string, Curve>> = {
  "1.2.840.10045.3.1.7": "P-256",
  "1.3.132.0.34": "P-384",
  "1.3.132.0.35": "P-521",
};
export const coordinateBytes: Readonly<Record<Curve, number>> = { "P-256": 32, "P-384": 48, "P-521": 66 };
const keyOids = { ec: "1.2.840.10045.2.1", rsa: "1.2.840.113549.1.1.1", ed25519: "1.3.101.112" } as const;

/** `spki`: a SubjectPublicKeyInfo, whole. That a point is on its curve is found when it is imported. Throws a refusal. */
export function keyOf(spki: Uint8Array): CertificateKey {
  const what = "the public key";
  return readWhole(spki, what, (outer) =>
    outer.within(derTag.sequence, what, (inner) => {
      const kind = inner.within(derTag.sequence, what, keyKind);
      const bits = inner.wholeBytes();
      if (kind === "RSA") return rsaKey(bits);
      if (kind === "Ed25519") {
        if (bits.length !== 32) refuse("RFC 8410 4", "an Ed25519 key has 32 bytes");
        return { kind, x: bits };
      }
      const size = coordinateBytes[kind];
      if (bits[0] !== 4 || bits.length !== 1 + 2 * size)
        refuse("RFC 5480 2.2", `a ${kind} key is an uncompressed point`);
      return { kind: "EC", curve: kind, x: bits.subarray(1, 1 + size), y: bits.subarray(1 + size) };
    }),
  );
}

function keyKind(reader: DerReader): Curve | "RSA" | "Ed25519" {
  const oid = reader.objectIdentifier();
  if (oid === keyOids.ed25519) return "Ed25519";
  if (oid === keyOids.rsa) {
    if (reader.contents(derTag.null).length > 0) refuse("RFC 3279 2.3.1", "an RSA key's parameters are NULL");
    return "RSA";
  }
  if (oid !== keyOids.ec) refuse("RFC 5280 4.1.2.7", `a public key of the kind ${oid} is not taken`);
  const curve = curves[reader.objectIdentifier()];
  return curve ?? refuse("RFC 5480 2.1.1", "only keys on P-256, P-384 and P-521 are taken");
}

function rsaKey(bits: Uint8Array): CertificateKey {
  const [modulus, exponent] = readWhole(bits, "the RSA key", (outer) =>
    outer.within(derTag.sequence, "the RSA key", (inner) => [inner.unsigned(), inner.unsigned()] as const),
  );
  checkRsa(modulus, exponent);
  return { kind: "RSA", modulus, exponent };
}

/** Big-endian, without leading zeros. Throws a refusal for what is too weak, or too much. */
export function checkRsa(modulus: Uint8Array, exponent: Uint8Array): void {
  const [first = 0] = modulus;
  const bits = first === 0 ? 0 : modulus.length * 8 - (Math.clz32(first) - 24);
  if (bits < rsaBitsMin || bits > rsaBitsMax) {
    refuse("RFC 3279 2.3.1", `an RSA key has ${rsaBitsMin} to ${rsaBitsMax} bits, not ${bits}`);
  }
  if (((modulus.at(-1) ?? 0) & 1) === 0) refuse("RFC 3279 2.3.1", "an RSA modulus is odd");
  // RFC 7518 6.3.1.2: in its one spelling, since a key is called by it.
  if (exponent[0] === 0) refuse("RFC 7518 2", "an RSA exponent has a zero in front");
  const value = exponent.length > 4 ? Number.POSITIVE_INFINITY : exponent.reduce((sum, byte) => sum * 256 + byte, 0);
  if (value < rsaExponentMin || value > rsaExponentMax || value % 2 === 0) {
    refuse("RFC 3279 2.3.1", `an RSA exponent is odd and from ${rsaExponentMin} to 2^31 - 1`);
  }
}

const ecdsaOids: Readonly<Record<string, Hash>> = {
  "1.2.840.10045.4.3.2": "SHA-256",
  "1.2.840.10045.4.3.3": "SHA-384",
  "1.2.840.10045.4.3.4": "SHA-512",
};
const rsaOids: Readonly<Record<string, Hash>> = {
  "1.2.840.113549.1.1.11": "SHA-256",
  "1.2.840.113549.1.1.12": "SHA-384",
  "1.2.840.113549.1.1.13": "SHA-512",
};
const pssOid = "1.2.840.113549.1.1.10";
const saltBytes: Readonly<Record<Hash, number>> = { "SHA-256": 32, "SHA-384": 48, "SHA-512": 64 };

/** RFC 4055 3.1: hash, MGF1 with the same hash, salt as long as the hash; the hash's NULL may be there or not. */
const pssHashes: ReadonlyMap<string, Hash> = new Map(
  (Object.keys(saltBytes) as Hash[]).flatMap((hash, index) =>
    [true, false].map((hasNull) => {
      const oid = `06096086480165030402${["01", "02", "03"][index]}`;
      const digest = hasNull ? `300d${oid}0500` : `300b${oid}`;
      const size = hasNull ? 15 : 13;
      const mask = `30${twoDigits(size + 11)}06092a864886f70d010108${digest}`;
      const salt = `a2030201${twoDigits(saltBytes[hash])}`;
      const body = `a0${twoDigits(size)}${digest}a1${twoDigits(size + 13)}${mask}${salt}`;
      return [`30${twoDigits(body.length / 2)}${body}`, hash] as const;
    }),
  ),
);

function twoDigits(number: number): string {
  return number.toString(16).padStart(2, "0");
}

/** `identifier`: what an AlgorithmIdentifier contains. Null for one that is not taken. Throws a refusal for broken DER. */
export function signatureAlgorithmOf(identifier: Uint8Array): SignatureAlgorithm | null {
  return readWhole(identifier, "the signature's algorithm", (reader) => {
    const oid = reader.objectIdentifier();
    const parameters = reader.isEmpty ? null : reader.any().whole;
    if (oid === keyOids.ed25519) return parameters === null ? { name: "Ed25519", hash: null } : null;
    const ecdsa = ecdsaOids[oid];
    if (ecdsa !== undefined) return parameters === null ? { name: "ECDSA", hash: ecdsa } : null;
    const rsa = rsaOids[oid];
    if (rsa !== undefined)
      return parameters !== null && hex(parameters) === "0500" ? { name: "RSASSA-PKCS1-v1_5", hash: rsa } : null;
    const pss = oid === pssOid && parameters !== null ? pssHashes.get(hex(parameters)) : undefined;
    return pss === undefined ? null : { name: "RSA-PSS", hash: pss };
  });
}

/** Of keys that are asked again and again: a bundle's authorities. */
const importedBefore = new WeakMap<CertificateKey, Map<string, CryptoKey | null>>();

/** The key for checking by `algorithm`; null where it is not of that kind, or its point not on the curve. */
async function imported(
  spki: Uint8Array,
  key: CertificateKey,
  algorithm: SignatureAlgorithm,
): Promise<CryptoKey | null> {
  const { name, hash } = algorithm;
  const kinds = { ECDSA: "EC", "RSASSA-PKCS1-v1_5": "RSA", "RSA-PSS": "RSA", Ed25519: "Ed25519" } as const;
  if (kinds[name] !== key.kind) return null;
  const known = importedBefore.get(key) ?? new Map<string, CryptoKey | null>();
  importedBefore.set(key, known);
  // A key on a curve is one for all hashes.
  const use = key.kind === "RSA" ? `${name} ${hash}` : name;
  const before = known.get(use);
  if (before !== undefined) return before;
  const now = await importNow(spki, key, algorithm);
  known.set(use, now);
  return now;
}

/** Points are handed over as they are: reading them out of DER anew takes Node several times as long. */
async function importNow(
  spki: Uint8Array,
  key: CertificateKey,
  { name, hash }: SignatureAlgorithm,
): Promise<CryptoKey | null> {
  try {
    if (key.kind === "EC") {
      const point = concat(new Uint8Array([4]), key.x, key.y);
      return await crypto.subtle.importKey("raw", point, { name, namedCurve: key.curve }, false, ["verify"]);
    }
    if (key.kind === "Ed25519")
      return await crypto.subtle.importKey("raw", toBytes(key.x), { name }, false, ["verify"]);
    const parameters = hash === null ? { name } : { name, hash };
    return await crypto.subtle.importKey("spki", toBytes(spki), parameters, false, ["verify"]);
  } catch {
    return null;
  }
}

/** Whether the key can be used at all: a point that is not on its curve cannot. */
export async function isUsableKey(spki: Uint8Array, key: CertificateKey): Promise<boolean> {
  const algorithm: SignatureAlgorithm =
    key.kind === "EC"
      ? { name: "ECDSA", hash: "SHA-256" }
      : key.kind === "RSA"
        ? { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" }
        : { name: "Ed25519", hash: null };
  return (await imported(spki, key, algorithm)) !== null;
}

export interface Signed {
  readonly algorithm: SignatureAlgorithm;
  readonly bytes: Uint8Array;
  /** As a certificate has it: DER for ECDSA. */
  readonly signature: Uint8Array;
}

/** Whether `spki`'s key made the signature. False for every signature that is not written the one way. */
export async function isSignedBy(spki: Uint8Array, key: CertificateKey, signed: Signed): Promise<boolean> {
  const { algorithm, bytes, signature } = signed;
  const { name, hash } = algorithm;
  const cryptoKey = await imported(spki, key, algorithm);
  if (cryptoKey === null) return false;
  if (key.kind === "EC") {
    const plain = plainEcdsa(signature, coordinateBytes[key.curve]);
    if (plain === null || hash === null) return false;
    return await crypto.subtle.verify({ name, hash }, cryptoKey, plain, toBytes(bytes));
  }
  if (key.kind === "RSA" && signature.length !== key.modulus.length) return false;
  if (key.kind === "Ed25519" && signature.length !== 64) return false;
  const parameters = name === "RSA-PSS" && hash !== null ? { name, saltLength: saltBytes[hash] } : { name };
  return await crypto.subtle.verify(parameters, cryptoKey, toBytes(signature), toBytes(bytes));
}

/** r ‖ s from DER, `size` bytes each; null for anything but the one encoding. */
function plainEcdsa(signature: Uint8Array, size: number): Uint8Array<ArrayBuffer> | null {
  const what = "the signature";
  const read = checkedNow(() =>
    readWhole(signature, what, (outer) =>
      outer.within(derTag.sequence, what, (inner) => [inner.unsigned(), inner.unsigned()] as const),
    ),
  );
  if (!read.ok || read.value.some((scalar) => scalar.length > size)) return null;
  return concat(...read.value.map((scalar) => concat(new Uint8Array(size - scalar.length), scalar)));
}

/** Whether two keys are the same one. */
export function sameKey(left: CertificateKey, right: CertificateKey): boolean {
  if (left.kind === "EC" && right.kind === "EC") {
    return left.curve === right.curve && bytesEqual(left.x, right.x) && bytesEqual(left.y, right.y);
  }
  if (left.kind === "RSA" && right.kind === "RSA") {
    return bytesEqual(left.modulus, right.modulus) && bytesEqual(left.exponent, right.exponent);
  }
  return left.kind === "Ed25519" && right.kind === "Ed25519" && bytesEqual(left.x, right.x);
}
