// Issues what a small authority gives out: its own certificates, X.509-SVIDs, JWT-SVIDs and bundle documents, all on P-256. For
// development and drills: called by cli/svid. In production SPIRE issues.

import { base64, concat, sha256, type Bytes } from "../../contract/bytes.ts";
import { derFromP1363 } from "../../signing/ecdsa-der.ts";
import {
  alternativeNames,
  authorityKeyIdentifier,
  basicConstraints,
  dns,
  extendedKeyUsage,
  ipAddress,
  keyUsage,
  subjectKeyIdentifier,
  uri,
  usageOids,
  writeCertificate,
  type CertificateSigner,
} from "./certificate-writer.ts";
import { oid, sequence } from "./der-writer.ts";
import { base64Url, compactJws } from "./jws.ts";

/** What is written into each certificate, so that whoever sees one knows what issued it. */
export const authorityName = "Maestro development authority";
const workloadName = "Maestro development SVID";

/** How far a certificate reaches back: clocks are not the same everywhere. As SPIRE. */
export const backdateMs = 10_000;

const ecdsa = { name: "ECDSA", hash: "SHA-256" } as const;

/** A key on P-256 that signs. */
export interface IssuingKey {
  readonly privateKey: CryptoKey;
  /** SubjectPublicKeyInfo in DER. */
  readonly spki: Uint8Array;
}

const signerOf = ({ privateKey }: IssuingKey): CertificateSigner => ({
  identifier: sequence(oid("1.2.840.10045.4.3.2")),
  sign: async (bytes) =>
    derFromP1363(new Uint8Array(await crypto.subtle.sign(ecdsa, privateKey, new Uint8Array(bytes)))),
});

/** RFC 7093 2, method 1: 160 bits of the key's SHA-256. */
export const keyIdentifier = async (spki: Uint8Array): Promise<Bytes> => (await sha256(spki)).slice(0, 20);

interface Times {
  /** Milliseconds since 1970 UTC. */
  readonly fromMs: number;
  readonly untilMs: number;
  /** Sixteen random bytes. */
  readonly serial: Uint8Array;
}

/** X509-SVID 3.2 and 4: a signing certificate that signs itself, of one trust domain, and above leaves alone. */
export async function issueAuthority(trustDomain: string, key: IssuingKey, times: Times): Promise<Bytes> {
  return writeCertificate(
    {
      serial: positive(times.serial),
      issuer: authorityName,
      subject: authorityName,
      notBeforeMs: times.fromMs,
      notAfterMs: times.untilMs,
      spki: key.spki,
      extensions: [
        basicConstraints(true, 0),
        keyUsage([5, 6]),
        subjectKeyIdentifier(await keyIdentifier(key.spki)),
        alternativeNames([uri(`spiffe://${trustDomain}`)]),
      ],
    },
    signerOf(key),
  );
}

export interface Subject {
  readonly spiffeId: string;
  /** The workload's own key. */
  readonly spki: Uint8Array;
  /** Beside the ID, for clients that know nothing of SPIFFE. */
  readonly dnsNames?: readonly string[];
  /** Four bytes each, or sixteen. */
  readonly ipAddresses?: readonly Uint8Array[];
}

/** X509-SVID 2 to 5: the leaf. Its ID must have been checked. */
export async function issueX509Svid(authority: IssuingKey, subject: Subject, times: Times): Promise<Bytes> {
  return writeCertificate(
    {
      serial: positive(times.serial),
      issuer: authorityName,
      subject: workloadName,
      notBeforeMs: times.fromMs,
      notAfterMs: times.untilMs,
      spki: subject.spki,
      extensions: [
        basicConstraints(false),
        keyUsage([0]),
        extendedKeyUsage(usageOids.serverAuth, usageOids.clientAuth),
        subjectKeyIdentifier(await keyIdentifier(subject.spki)),
        authorityKeyIdentifier(await keyIdentifier(authority.spki)),
        alternativeNames([
          uri(subject.spiffeId),
          ...(subject.dnsNames ?? []).map(dns),
          ...(subject.ipAddresses ?? []).map(ipAddress),
        ]),
      ],
    },
    signerOf(authority),
  );
}

/** RFC 5280 4.1.2.2: never zero. */
const positive = (serial: Uint8Array): Bytes => concat(new Uint8Array([1]), serial);

/** JWT-SVID 2 and 3: for one audience. Times in whole seconds, as milliseconds are given. */
export const issueJwtSvid = (
  key: IssuingKey & { readonly kid: string },
  svid: { readonly spiffeId: string; readonly audience: string },
  times: Pick<Times, "fromMs" | "untilMs">,
): Promise<string> =>
  compactJws(
    key.kid,
    svidClaims(svid, times),
    async (bytes) => new Uint8Array(await crypto.subtle.sign(ecdsa, key.privateKey, bytes)),
  );

export const svidClaims = (
  { spiffeId, audience }: { readonly spiffeId: string; readonly audience: string },
  { fromMs, untilMs }: Pick<Times, "fromMs" | "untilMs">,
): object => ({ sub: spiffeId, aud: [audience], iat: Math.floor(fromMs / 1_000), exp: Math.floor(untilMs / 1_000) });

interface PublicKey {
  /** SubjectPublicKeyInfo of a P-256 key in DER. */
  readonly spki: Uint8Array;
}

export interface BundleParts {
  readonly sequence: number;
  readonly refreshHintSeconds: number;
  readonly x509: readonly (PublicKey & { readonly certificate: Uint8Array })[];
  readonly jwt: readonly (PublicKey & { readonly kid: string })[];
}

/** SPIFFE Trust Domain and Bundle 4: the document. The same parts give the same bytes. */
export const writeBundle = ({ sequence: number, refreshHintSeconds, x509, jwt }: BundleParts): string =>
  `${JSON.stringify({
    spiffe_sequence: number,
    spiffe_refresh_hint: refreshHintSeconds,
    keys: [
      ...x509.map(({ spki, certificate }) => ({ use: "x509-svid", ...pointOf(spki), x5c: [base64(certificate)] })),
      ...jwt.map(({ spki, kid }) => ({ use: "jwt-svid", kid, ...pointOf(spki) })),
    ],
  })}\n`;

/** The last 64 bytes of such an SPKI are the point (RFC 5480 2.2). */
const pointOf = (spki: Uint8Array): object => ({
  kty: "EC",
  crv: "P-256",
  x: base64Url(spki.subarray(-64, -32)),
  y: base64Url(spki.subarray(-32)),
});
