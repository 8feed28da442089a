// Writes DER (X.690): what a certificate is made of. Called by certificate-writer.ts, and by tests for broken certificates.

import { concat, hexBytes, utf8, type Bytes } from "../../contract/bytes.ts";

/** Tag, minimal length, contents. */
export function tlv(tag: number, ...contents: readonly Uint8Array[]): Bytes {
  const body = concat(...contents);
  const size = body.length;
  const length =
    size < 0x80
      ? [size]
      : size < 0x100
        ? [0x81, size]
        : size < 0x1_0000
          ? [0x82, size >> 8, size & 0xff]
          : [0x83, size >> 16, (size >> 8) & 0xff, size & 0xff];
  return concat(new Uint8Array([tag, ...length]), body);
}

export const sequence = (...parts: readonly Uint8Array[]): Bytes => tlv(0x30, ...parts);
export const set = (...parts: readonly Uint8Array[]): Bytes => tlv(0x31, ...parts);
export const octets = (...parts: readonly Uint8Array[]): Bytes => tlv(0x04, ...parts);
export const bitString = (bytes: Uint8Array, unused = 0): Bytes => tlv(0x03, new Uint8Array([unused]), bytes);
export const boolean = (value: boolean): Bytes => tlv(0x01, new Uint8Array([value ? 0xff : 0]));
export const nul: Bytes = hexBytes("0500");
export const text = (tag: number, value: string): Bytes => tlv(tag, utf8(value));

/** `digits`: big-endian, of a number that is not negative. */
export function integer(digits: Uint8Array | number): Bytes {
  const bytes = typeof digits === "number" ? numberBytes(digits) : digits;
  let start = 0;
  while (start < bytes.length - 1 && bytes[start] === 0) start += 1;
  const short = bytes.subarray(start);
  return tlv(0x02, new Uint8Array((short[0] ?? 0) >= 0x80 ? [0] : []), short);
}

function numberBytes(value: number): Bytes {
  const digits = value.toString(16);
  return hexBytes(digits.padStart(digits.length + (digits.length % 2), "0"));
}

export function oid(dotted: string): Bytes {
  const [first = 0, second = 0, ...rest] = dotted.split(".").map(Number);
  const bytes = [first * 40 + second, ...rest].flatMap((component) => {
    const groups = [component % 128];
    for (let left = Math.floor(component / 128); left > 0; left = Math.floor(left / 128)) {
      groups.unshift(0x80 | (left % 128));
    }
    return groups;
  });
  return tlv(0x06, new Uint8Array(bytes));
}

/** UTCTime up to 2049, GeneralizedTime after it. */
export function time(ms: number): Bytes {
  const iso = new Date(ms).toISOString();
  const digits = iso.slice(0, 19).replaceAll(/\D/g, "");
  return Number(iso.slice(0, 4)) < 2050 ? text(0x17, `${digits.slice(2)}Z`) : text(0x18, `${digits}Z`);
}
