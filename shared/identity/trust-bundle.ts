// A trust domain's bundle: the authorities that its SVIDs are verified with, read strictly from a SPIFFE bundle document (a JWK
// set). Called by bundle-state.ts and by `maestro svid`. A document does not say whose it is: the caller does (SPIFFE Trust
// Domain and Bundle 3), and two domains' bundles are never put together.

import { base64Bytes, bytesEqual, sha256, sha256Hex, utf8, type Bytes } from "../contract/bytes.ts";
import { certificateOf, type Certificate } from "./certificate.ts";
import { checkRsa, coordinateBytes, isUsableKey, sameKey, type CertificateKey, type Curve } from "./certificate-key.ts";
import { checked, refuse, type Checked } from "./refusal.ts";
import type { TrustDomain } from "./spiffe-id.ts";
import { membersOf, strictJson } from "./strict-json.ts";

export interface TrustBundle {
  readonly trustDomain: TrustDomain;
  /** For X.509-SVIDs. None: the domain has no X.509-SVIDs, or all are revoked. */
  readonly authorities: readonly Certificate[];
  /** For JWT-SVIDs, by `kid`: the key's own members and nothing else. */
  readonly jwtKeys: ReadonlyMap<string, JwtKey>;
  readonly sequence: number | null;
  /** Seconds, as the document says it. */
  readonly refreshHint: number | null;
  /** How many of the domain's authorities were distrusted when this became the bundle that is believed: never fewer later. */
  readonly distrusts: number;
  /** Lower-case hex SHA-256 of the document. */
  readonly digest: string;
}

export type JwtKey =
  | { readonly kty: "EC"; readonly crv: Curve; readonly x: string; readonly y: string }
  | { readonly kty: "RSA"; readonly n: string; readonly e: string };

/** Some 100 authorities with RSA keys of 4,096 bits. */
export const bundleBytesMax = 524_288;
/** Our own member of the documents that we keep and mirror; whoever else reads one passes it over (RFC 7517 5). */
export const distrustsMember = "maestro_distrusts";
const keysMax = 256;
const keyIdCharactersMax = 256;
const format = "SPIFFE Trust Domain and Bundle 4.1";

/** The bundle of `trustDomain` in the text of a document. Duplicate members, broken keys and weak ones refuse all of it. */
export const parseTrustBundle = (trustDomain: TrustDomain, document: string): Promise<Checked<TrustBundle>> =>
  checked(async () => {
    const { value, numbers } = strictJson(document, bundleBytesMax, format, "the bundle");
    const members = membersOf(value) ?? refuse(format, "the bundle is no JSON object");
    const sequence = wholeNumber(members, numbers, "spiffe_sequence", "4.1.1");
    const refreshHint = wholeNumber(members, numbers, "spiffe_refresh_hint", "4.1.2");
    const distrusts = wholeNumber(members, numbers, distrustsMember, "4.1") ?? 0;
    const keys = members["keys"];
    if (!Array.isArray(keys)) refuse(`${format}.3`, "the bundle has no list of keys");
    if (keys.length > keysMax) refuse("bounds", `a bundle has at most ${keysMax} keys`);
    const authorities: Certificate[] = [];
    const jwtKeys = new Map<string, JwtKey>();
    for (const [index, entry] of keys.entries()) {
      const key = membersOf(entry) ?? refuse(`${format}.3`, `key ${index} is no JSON object`);
      checkMembers(key, index);
      const kty = String(key["kty"]);
      const material = Object.hasOwn(kinds, kty) ? kinds[kty] : undefined;
      // 4.2.1 and 4.2.2: unknown kinds and uses are passed over.
      if (material === undefined) continue;
      if (key["use"] === "x509-svid") authorities.push(await authorityOf(key, material(key, index), index));
      else if (key["use"] === "jwt-svid") {
        const jwtKey = await jwtKeyOf(key, material(key, index), index);
        if (jwtKey === null) continue;
        const [kid, jwk] = jwtKey;
        if (jwtKeys.has(kid)) refuse("JWT-SVID 2.2", `key ${index} has the kid of another`);
        jwtKeys.set(kid, jwk);
      }
    }
    return {
      trustDomain,
      authorities,
      jwtKeys,
      sequence,
      refreshHint,
      distrusts,
      digest: await sha256Hex(utf8(document)),
    };
  });

type Members = Readonly<Record<string, unknown>>;

const textMembers = ["kty", "use", "kid", "alg", "crv", "x", "y", "n", "e", "d", "k", "x5u", "x5t", "x5t#S256"];
const listMembers = ["x5c", "key_ops"];

/** What RFC 7517 4 and RFC 7518 6 name has the type that they give it, in keys that are passed over too. */
function checkMembers(key: Members, index: number): void {
  if (key["kty"] === undefined) refuse("SPIFFE Trust Domain and Bundle 4.2.1", `key ${index} has no kty`);
  const isText = (value: unknown): boolean => typeof value === "string";
  const wrong =
    textMembers.find((name) => key[name] !== undefined && !isText(key[name])) ??
    listMembers.find((name) => {
      const list = key[name];
      return list !== undefined && !(Array.isArray(list) && list.every(isText));
    });
  if (wrong !== undefined) refuse("RFC 7517 4", `key ${index} has a ${wrong} of another type`);
}

/** An integer that is written as one. Null where it is absent. */
function wholeNumber(
  members: Members,
  numbers: ReadonlyMap<string, string>,
  name: string,
  section: string,
): number | null {
  const value = members[name];
  if (value === undefined) return null;
  const source = numbers.get(name);
  if (typeof value !== "number" || source === undefined || !/^(?:0|[1-9]\d*)$/.test(source)) {
    refuse(`SPIFFE Trust Domain and Bundle ${section}`, `${name} is no whole number`);
  }
  // Beyond it two numbers could not be told apart.
  if (!Number.isSafeInteger(value)) refuse("bounds", `${name} is above 2^53 - 1`);
  return value;
}

const kinds: Readonly<Record<string, (key: Members, index: number) => CertificateKey>> = {
  EC: (key, index) => {
    const curve = (Object.keys(coordinateBytes) as Curve[]).find((name) => name === key["crv"]);
    if (curve === undefined) refuse("RFC 7518 6.2.1.1", `key ${index} is on a curve that is not taken`);
    const [x, y] = [bytesOf(key, "x", index), bytesOf(key, "y", index)];
    if (x.length !== coordinateBytes[curve] || y.length !== x.length) {
      refuse("RFC 7518 6.2.1.2", `key ${index} has coordinates of another length than its curve`);
    }
    return { kind: "EC", curve, x, y };
  },
  RSA: (key, index) => {
    const [modulus, exponent] = [bytesOf(key, "n", index), bytesOf(key, "e", index)];
    checkRsa(modulus, exponent);
    return { kind: "RSA", modulus, exponent };
  },
  OKP: (key, index) => {
    const x = bytesOf(key, "x", index);
    if (key["crv"] !== "Ed25519" || x.length !== 32) refuse("RFC 8037 2", `key ${index} is no Ed25519 key`);
    return { kind: "Ed25519", x };
  },
};

/** base64url without padding, in its one spelling. */
function bytesOf(key: Members, name: string, index: number): Bytes {
  const text = key[name];
  if (key["d"] !== undefined || key["k"] !== undefined) refuse("RFC 7517 9.2", `key ${index} holds a secret`);
  if (typeof text !== "string" || !/^[A-Za-z0-9_-]+$/.test(text)) {
    refuse("RFC 7518 6", `key ${index} has no ${name} in base64url`);
  }
  const padded = text.replaceAll("-", "+").replaceAll("_", "/") + "=".repeat((4 - (text.length % 4)) % 4);
  try {
    return base64Bytes(padded);
  } catch {
    return refuse("RFC 7518 6", `key ${index} has no ${name} in base64url`);
  }
}

/** X509-SVID 6.1: no `kid`, and exactly one certificate, of the key that the other members state. */
async function authorityOf(key: Members, material: CertificateKey, index: number): Promise<Certificate> {
  if (key["kid"] !== undefined) refuse("X509-SVID 6.1", `key ${index} is for X.509-SVIDs and has a kid`);
  const chain = key["x5c"];
  if (!Array.isArray(chain) || chain.length !== 1) refuse("X509-SVID 6.1", `key ${index} has not exactly one x5c`);
  const [text] = chain as unknown[];
  let der: Bytes;
  try {
    der = base64Bytes(String(text));
  } catch {
    refuse("RFC 7517 4.7", `key ${index} has an x5c that is not base64`);
  }
  const authority = certificateOf(der);
  if (!sameKey(authority.key, material)) refuse("RFC 7517 4.7", `key ${index} is not the key of its certificate`);
  const thumbprint = key["x5t#S256"];
  if (thumbprint !== undefined && !bytesEqual(bytesOf(key, "x5t#S256", index), await sha256(der))) {
    refuse("RFC 7517 4.9", `key ${index} has another x5t#S256 than its certificate`);
  }
  checkSigning(authority, `key ${index}`);
  if (!(await isUsableKey(authority.spki, authority.key))) refuse("RFC 5480 2.2", `key ${index} is not on its curve`);
  return authority;
}

/** Of signing certificates, in a bundle or between it and a leaf. Throws a refusal that calls it `what`. */
export function checkSigning({ extensions }: Certificate, what: string): void {
  const { isCa, keyUsage, extendedKeyUsages, alternativeNames } = extensions;
  if (!isCa) refuse("X509-SVID 4.1", `${what} is no signing certificate: its flag cA is not set`);
  if (keyUsage === null) refuse("X509-SVID 4.3", `${what} has no key usage`);
  if (!keyUsage.isCritical) refuse("X509-SVID 4.3", `${what} has a key usage that is not critical`);
  if (!keyUsage.keyCertSign) refuse("X509-SVID 4.3", `${what} is no signing certificate: keyCertSign is not set`);
  if (extendedKeyUsages !== null && !allowsBothSides(extendedKeyUsages)) {
    refuse("X509-SVID 4.4", `${what} is for something else than servers and clients`);
  }
  const ids = alternativeNames?.ids ?? [];
  if (ids.length > 1) refuse("X509-SVID 2", `${what} has more than one URI`);
  if (ids.some(({ path }) => path !== "")) refuse("X509-SVID 3.2", `${what} has a SPIFFE ID with a path`);
}

const usages = { any: "2.5.29.37.0", serverAuth: "1.3.6.1.5.5.7.3.1", clientAuth: "1.3.6.1.5.5.7.3.2" } as const;

const allowsBothSides = (oids: readonly string[]): boolean => oids.includes(usages.any) || hasBothSides(oids);

export const hasBothSides = (oids: readonly string[]): boolean =>
  oids.includes(usages.serverAuth) && oids.includes(usages.clientAuth);

/** Null for a key that none of a JWT-SVID's algorithms can use (JWT-SVID 2.1). */
async function jwtKeyOf(key: Members, material: CertificateKey, index: number): Promise<[string, JwtKey] | null> {
  const { kid } = key;
  if (typeof kid !== "string" || kid === "" || kid.length > keyIdCharactersMax) {
    refuse("JWT-SVID 2.2", `key ${index} is for JWT-SVIDs and has no kid`);
  }
  if (key["x5c"] !== undefined || key["x5t#S256"] !== undefined) {
    refuse("SPIFFE Trust Domain and Bundle 4.2", `key ${index} is for JWT-SVIDs and has a certificate`);
  }
  if (material.kind === "Ed25519") return null;
  const text = (name: string): string => String(key[name]);
  const jwk: JwtKey =
    material.kind === "EC"
      ? { kty: "EC", crv: material.curve, x: text("x"), y: text("y") }
      : { kty: "RSA", n: text("n"), e: text("e") };
  const algorithm =
    jwk.kty === "EC" ? { name: "ECDSA", namedCurve: jwk.crv } : { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" };
  try {
    await crypto.subtle.importKey("jwk", { ...jwk }, algorithm, false, ["verify"]);
  } catch {
    refuse("RFC 7518 6.2", `key ${index} is not on its curve`);
  }
  return [kid, jwk];
}
