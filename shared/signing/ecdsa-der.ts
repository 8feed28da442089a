// ECDSA P-256 signatures between their two encodings: DER (X.509, openssl, Sigstore) and IEEE P1363 (WebCrypto).
// Called by the signer and by bundle verification. DER is read strictly, so that a signature has one encoding only.

import { concat, type Bytes } from "../contract/bytes.ts";

const scalarBytes = 32;

function derInteger(scalar: Uint8Array): Bytes {
  let start = 0;
  while (start < scalar.length - 1 && scalar[start] === 0) start += 1;
  const digits = scalar.subarray(start);
  const padding = (digits[0] ?? 0) >= 0x80 ? [0] : [];
  return concat(new Uint8Array([0x02, digits.length + padding.length, ...padding]), digits);
}

/** `p1363`: r ‖ s, 32 bytes each. Throws TypeError for another length. */
export function derFromP1363(p1363: Uint8Array): Bytes {
  if (p1363.length !== scalarBytes * 2) throw new TypeError(`a P-256 signature has 64 bytes, not ${p1363.length}`);
  const body = concat(derInteger(p1363.subarray(0, scalarBytes)), derInteger(p1363.subarray(scalarBytes)));
  return concat(new Uint8Array([0x30, body.length]), body);
}

/** Null for anything but the one DER encoding of two integers from 1 to 2^256 - 1: no long lengths, no spare zeros, no rest. */
export function p1363FromDer(der: Uint8Array): Bytes | null {
  if (der.length < 8 || der[0] !== 0x30 || der[1] !== der.length - 2) return null;
  const out = new Uint8Array(scalarBytes * 2);
  let at = 2;
  for (let part = 0; part < 2; part += 1) {
    const length = der[at + 1];
    if (der[at] !== 0x02 || length === undefined || length < 1 || length > scalarBytes + 1) return null;
    const digits = der.subarray(at + 2, at + 2 + length);
    if (digits.length !== length) return null;
    const [first = 0, second = 0] = digits;
    if (first >= 0x80) return null;
    if (first === 0 && second < 0x80) return null;
    if (length === scalarBytes + 1 && first !== 0) return null;
    const scalar = first === 0 ? digits.subarray(1) : digits;
    out.set(scalar, part * scalarBytes + scalarBytes - scalar.length);
    at += 2 + length;
  }
  return at === der.length ? out : null;
}
