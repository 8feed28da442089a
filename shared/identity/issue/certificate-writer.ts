// Writes X.509 certificates (RFC 5280) and the extensions that SVIDs have. Called by issue-svid.ts; tests of the verifier write
// their broken ones with it too.

import type { Bytes } from "../../contract/bytes.ts";
import { bitString, boolean, integer, octets, oid, sequence, set, text, time, tlv } from "./der-writer.ts";

export interface ExtensionOf {
  readonly oid: string;
  readonly critical?: boolean;
  readonly value: Uint8Array;
}

export const extensionOids = {
  subjectKeyIdentifier: "2.5.29.14",
  keyUsage: "2.5.29.15",
  alternativeNames: "2.5.29.17",
  basicConstraints: "2.5.29.19",
  nameConstraints: "2.5.29.30",
  authorityKeyIdentifier: "2.5.29.35",
  extendedKeyUsage: "2.5.29.37",
} as const;

export const uri = (value: string): Bytes => text(0x86, value);
export const dns = (value: string): Bytes => text(0x82, value);
/** Four bytes, or sixteen. */
export const ipAddress = (bytes: Uint8Array): Bytes => tlv(0x87, bytes);

/** `names`: as `uri`, `dns` and `ipAddress` write them. */
export const alternativeNames = (names: readonly Uint8Array[], critical = false): ExtensionOf => ({
  oid: extensionOids.alternativeNames,
  critical,
  value: sequence(...names),
});

/** `bits` by number: 0 digitalSignature, 5 keyCertSign, 6 cRLSign. */
export function keyUsage(bits: readonly number[], critical = true): ExtensionOf {
  const byte = bits.reduce((sum, bit) => sum | (0x80 >> bit), 0);
  const unused = byte === 0 ? 0 : Math.log2(byte & -byte);
  return { oid: extensionOids.keyUsage, critical, value: bitString(new Uint8Array(byte === 0 ? [] : [byte]), unused) };
}

export const basicConstraints = (isCa: boolean, pathLength?: number): ExtensionOf => ({
  oid: extensionOids.basicConstraints,
  critical: true,
  value: sequence(...(isCa ? [boolean(true)] : []), ...(pathLength === undefined ? [] : [integer(pathLength)])),
});

export const usageOids = { serverAuth: "1.3.6.1.5.5.7.3.1", clientAuth: "1.3.6.1.5.5.7.3.2" } as const;
export const extendedKeyUsage = (...oids: readonly string[]): ExtensionOf => ({
  oid: extensionOids.extendedKeyUsage,
  value: sequence(...oids.map(oid)),
});

export const subjectKeyIdentifier = (id: Uint8Array): ExtensionOf => ({
  oid: extensionOids.subjectKeyIdentifier,
  value: octets(id),
});
export const authorityKeyIdentifier = (id: Uint8Array): ExtensionOf => ({
  oid: extensionOids.authorityKeyIdentifier,
  value: sequence(tlv(0x80, id)),
});

/** A name of one common name; none for an empty text. */
export const nameOf = (commonName: string): Bytes =>
  commonName === "" ? sequence() : sequence(set(sequence(oid("2.5.4.3"), text(0x0c, commonName))));

/** Whoever signs: its AlgorithmIdentifier in DER, and the signature as a certificate has it. */
export interface CertificateSigner {
  readonly identifier: Uint8Array;
  sign(bytes: Uint8Array): Promise<Uint8Array>;
}

export interface CertificateParts {
  /** Big-endian, not all zeros; at most 20 bytes with the sign (RFC 5280 4.1.2.2). */
  readonly serial: Uint8Array;
  readonly issuer: string;
  readonly subject: string;
  /** Milliseconds since 1970 UTC; a certificate has whole seconds, and drops the rest. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  readonly spki: Uint8Array;
  readonly extensions: readonly ExtensionOf[];
}

/** A certificate over these parts, in DER. */
export async function writeCertificate(parts: CertificateParts, signer: CertificateSigner): Promise<Bytes> {
  const extensions = parts.extensions.map(({ oid: id, critical = false, value }) =>
    sequence(oid(id), ...(critical ? [boolean(true)] : []), octets(value)),
  );
  const body = sequence(
    tlv(0xa0, integer(2)),
    integer(parts.serial),
    signer.identifier,
    nameOf(parts.issuer),
    sequence(time(parts.notBeforeMs), time(parts.notAfterMs)),
    nameOf(parts.subject),
    parts.spki,
    tlv(0xa3, sequence(...extensions)),
  );
  return sequence(body, signer.identifier, bitString(await signer.sign(body)));
}
