// A small authority of one trust domain in memory: certificates, X.509-SVIDs, JWT-SVIDs and bundle documents of any make, good
// ones and broken ones. For tests of shared/identity and of `maestro svid`.

import { base64, hexBytes, utf8, type Bytes } from "../../shared/contract/bytes.ts";
import { derFromP1363 } from "../../shared/signing/ecdsa-der.ts";
import {
  alternativeNames,
  basicConstraints,
  extendedKeyUsage,
  extensionOids,
  keyUsage,
  uri,
  usageOids,
  writeCertificate,
  type ExtensionOf,
} from "../../shared/identity/issue/certificate-writer.ts";
import { pemOfCertificates } from "../../shared/identity/pem.ts";
import { bitString, integer, nul, oid, sequence, tlv } from "../../shared/identity/issue/der-writer.ts";

export type KeyType = "P-256" | "P-384" | "P-521" | "RSA-2048" | "RSA-PSS" | "Ed25519";

export interface KeyPair {
  readonly type: KeyType;
  readonly privateKey: CryptoKey;
  readonly spki: Bytes;
  readonly jwk: JsonWebKey;
}

const hashes: Readonly<Record<KeyType, string>> = {
  "P-256": "SHA-256",
  "P-384": "SHA-384",
  "P-521": "SHA-512",
  "RSA-2048": "SHA-256",
  "RSA-PSS": "SHA-256",
  Ed25519: "SHA-512",
};

interface Generation {
  readonly name: string;
  readonly namedCurve: string;
  readonly hash?: string;
  readonly modulusLength?: number;
  readonly publicExponent?: Bytes;
}

function generation(type: KeyType): Generation {
  if (type === "Ed25519") return { name: "Ed25519", namedCurve: "" };
  if (type === "RSA-2048" || type === "RSA-PSS") {
    const name = type === "RSA-PSS" ? "RSA-PSS" : "RSASSA-PKCS1-v1_5";
    return {
      name,
      namedCurve: "",
      hash: hashes[type],
      modulusLength: 2_048,
      publicExponent: new Uint8Array([1, 0, 1]),
    };
  }
  return { name: "ECDSA", namedCurve: type };
}

/** On Node and in workerd, whose types of WebCrypto differ. */
export async function newKeys(type: KeyType): Promise<KeyPair> {
  const pair = await crypto.subtle.generateKey(generation(type), true, ["sign", "verify"]);
  if (!("privateKey" in pair)) throw new TypeError(`${type} makes no pair of keys`);
  const spki = await crypto.subtle.exportKey("spki", pair.publicKey);
  const jwk = await crypto.subtle.exportKey("jwk", pair.publicKey);
  if (!(spki instanceof ArrayBuffer) || jwk instanceof ArrayBuffer) throw new TypeError("a key came in another format");
  return { type, privateKey: pair.privateKey, spki: new Uint8Array(spki), jwk };
}

const pssParameters = hexBytes(
  "3034a00f300d06096086480165030402010500a11c301a06092a864886f70d010108300d06096086480165030402010500a203020120",
);

/** The AlgorithmIdentifier that a key of this type signs with. */
export const signatureIdentifiers: Readonly<Record<KeyType, Bytes>> = {
  "P-256": sequence(oid("1.2.840.10045.4.3.2")),
  "P-384": sequence(oid("1.2.840.10045.4.3.3")),
  "P-521": sequence(oid("1.2.840.10045.4.3.4")),
  "RSA-2048": sequence(oid("1.2.840.113549.1.1.11"), nul),
  "RSA-PSS": sequence(oid("1.2.840.113549.1.1.10"), pssParameters),
  Ed25519: sequence(oid("1.3.101.112")),
};

/** As a certificate has it. */
export async function signWith(keys: KeyPair, bytes: Uint8Array): Promise<Bytes> {
  const algorithm = { name: keys.privateKey.algorithm.name, hash: hashes[keys.type], saltLength: 32 };
  const signature = new Uint8Array(await crypto.subtle.sign(algorithm, keys.privateKey, new Uint8Array(bytes)));
  if (!keys.type.startsWith("P-")) return signature;
  if (keys.type === "P-256") return derFromP1363(signature);
  const half = signature.length / 2;
  return sequence(integer(signature.subarray(0, half)), integer(signature.subarray(half)));
}

/** Each list: general names as `uri(".example")`, `dns("example")`. */
export const nameConstraints = (
  permitted: readonly Uint8Array[],
  excluded: readonly Uint8Array[] = [],
): ExtensionOf => ({
  oid: extensionOids.nameConstraints,
  critical: true,
  value: sequence(
    ...(permitted.length === 0 ? [] : [tlv(0xa0, ...permitted.map((name) => sequence(name)))]),
    ...(excluded.length === 0 ? [] : [tlv(0xa1, ...excluded.map((name) => sequence(name)))]),
  ),
});

interface SignedParts {
  readonly issuer: string;
  readonly subject: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  readonly spki: Uint8Array;
  readonly extensions: readonly ExtensionOf[];
  readonly signer: KeyPair;
}

const certificate = ({ signer, ...parts }: SignedParts): Promise<Bytes> =>
  writeCertificate(
    { serial: hexBytes("0f1e2d3c4b5a6978"), ...parts },
    { identifier: signatureIdentifiers[signer.type], sign: (bytes) => signWith(signer, bytes) },
  );

export interface Authority {
  readonly trustDomain: string;
  readonly name: string;
  readonly keys: KeyPair;
  readonly der: Bytes;
}

export const minuteMs = 60_000;
/** When everything here is made; SVIDs hold for an hour from then, authorities for a day. */
export const madeAtMs = Date.UTC(2026, 3, 13, 16);

export interface AuthorityOptions {
  readonly type?: KeyType;
  readonly keys?: KeyPair;
  readonly name?: string;
  readonly pathLength?: number;
  /** Instead of those of an authority. */
  readonly extensions?: readonly ExtensionOf[];
  readonly moreExtensions?: readonly ExtensionOf[];
  readonly notBeforeMs?: number;
  readonly notAfterMs?: number;
}

/** One that signs itself, or an intermediate that `parent` signs. */
export async function newAuthority(
  trustDomain: string,
  options: AuthorityOptions = {},
  parent: Pick<Authority, "name" | "keys"> | null = null,
): Promise<Authority> {
  const keys = options.keys ?? (await newKeys(options.type ?? "P-256"));
  const name = options.name ?? (parent === null ? "authority" : "intermediate");
  const der = await certificate({
    issuer: parent?.name ?? name,
    subject: name,
    notBeforeMs: options.notBeforeMs ?? madeAtMs - minuteMs,
    notAfterMs: options.notAfterMs ?? madeAtMs + 1_440 * minuteMs,
    spki: keys.spki,
    signer: parent?.keys ?? keys,
    extensions: options.extensions ?? [
      basicConstraints(true, options.pathLength),
      keyUsage([5, 6]),
      alternativeNames([uri(`spiffe://${trustDomain}`)]),
      ...(options.moreExtensions ?? []),
    ],
  });
  return { trustDomain, name, keys, der };
}

export interface LeafOptions {
  readonly type?: KeyType;
  readonly keys?: KeyPair;
  readonly subject?: string;
  /** Instead of those of an SVID. */
  readonly extensions?: readonly ExtensionOf[];
  readonly moreExtensions?: readonly ExtensionOf[];
  readonly notBeforeMs?: number;
  readonly notAfterMs?: number;
}

export const leafExtensions = (id: string): ExtensionOf[] => [
  basicConstraints(false),
  keyUsage([0]),
  extendedKeyUsage(usageOids.serverAuth, usageOids.clientAuth),
  alternativeNames([uri(id)]),
];

/** The leaf of an X.509-SVID, in DER. */
export async function newLeaf(
  authority: Pick<Authority, "name" | "keys">,
  id: string,
  options: LeafOptions = {},
): Promise<Bytes> {
  const keys = options.keys ?? (await newKeys(options.type ?? "P-256"));
  return certificate({
    issuer: authority.name,
    subject: options.subject ?? "workload",
    notBeforeMs: options.notBeforeMs ?? madeAtMs,
    notAfterMs: options.notAfterMs ?? madeAtMs + 60 * minuteMs,
    spki: keys.spki,
    signer: authority.keys,
    extensions: [...(options.extensions ?? leafExtensions(id)), ...(options.moreExtensions ?? [])],
  });
}

/** What a bundle document says of a public key. */
function publicMembers({ jwk }: KeyPair): object {
  const { kty, crv, x, y, n, e } = jwk;
  return kty === "RSA" ? { kty, n, e } : kty === "OKP" ? { kty, crv, x } : { kty, crv, x, y };
}

export const authorityEntry = ({ keys, der }: Pick<Authority, "keys" | "der">): object => ({
  ...publicMembers(keys),
  use: "x509-svid",
  x5c: [base64(der)],
});
export const jwtEntry = (keys: KeyPair, kid: string): object => ({ ...publicMembers(keys), use: "jwt-svid", kid });

export const bundleDocument = (keys: readonly object[], more: object = { spiffe_sequence: 1 }): string =>
  JSON.stringify({ ...more, keys });

const base64Url = (bytes: Uint8Array): string =>
  base64(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

export const jwtAlgorithms: Readonly<Partial<Record<KeyType, string>>> = {
  "P-256": "ES256",
  "P-384": "ES384",
  "P-521": "ES512",
  "RSA-2048": "RS256",
  "RSA-PSS": "PS256",
};

/** A compact JWS over any header and claims, also those that no JWT-SVID has. Texts are taken as they are. */
export async function jwtOf(keys: KeyPair, header: object | string, claims: object | string): Promise<string> {
  const part = (value: object | string): string =>
    base64Url(utf8(typeof value === "string" ? value : JSON.stringify(value)));
  const signed = `${part(header)}.${part(claims)}`;
  const algorithm = { name: keys.privateKey.algorithm.name, hash: hashes[keys.type], saltLength: 32 };
  const signature = await crypto.subtle.sign(algorithm, keys.privateKey, utf8(signed));
  return `${signed}.${base64Url(new Uint8Array(signature))}`;
}

export const pemOf = (...chain: readonly Uint8Array[]): string => pemOfCertificates(chain);

/** The same certificate with its signed part replaced, and signed again by `signer`. */
export async function signedAgain(der: Uint8Array, body: Uint8Array, signer: KeyPair): Promise<Bytes> {
  const { identifier } = partsOf(der);
  return sequence(body, identifier, bitString(await signWith(signer, body)));
}

/** The signed part and the algorithm's identifier of a good certificate. */
export function partsOf(der: Uint8Array): { readonly body: Uint8Array; readonly identifier: Uint8Array } {
  const outer = wholes(contentsOf(der));
  return { body: outer[0]!, identifier: outer[1]! };
}

function contentsOf(der: Uint8Array): Uint8Array {
  const first = der[1] ?? 0;
  return der.subarray(first < 0x80 ? 2 : 2 + (first & 0x7f));
}

function wholes(bytes: Uint8Array): Uint8Array[] {
  const found: Uint8Array[] = [];
  for (let at = 0; at < bytes.length;) {
    const first = bytes[at + 1] ?? 0;
    const count = first < 0x80 ? 0 : first & 0x7f;
    let length = count === 0 ? first : 0;
    for (let index = 0; index < count; index += 1) length = length * 256 + (bytes[at + 2 + index] ?? 0);
    const end = at + 2 + count + length;
    found.push(bytes.subarray(at, end));
    at = end;
  }
  return found;
}
