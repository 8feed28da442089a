// Writes DER, and reads it into a tree that can be changed and written again: for certificates made by tests, good and broken.

import { concat, hexBytes, utf8, type Bytes } from "../../shared/contract/bytes.ts";

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

/** A value with its parts, where it has any. `contents` counts where `parts` is null. */
export interface Node {
  tag: number;
  contents: Uint8Array;
  parts: Node[] | null;
  /** Before the parts: a bit string's count of unused bits. */
  prefix: Uint8Array;
}

/** Good DER as a tree; also through octet strings and bit strings that hold DER. */
export function treeOf(der: Uint8Array): Node[] {
  const nodes: Node[] = [];
  for (let at = 0; at < der.length;) {
    const tag = der[at];
    let length = der[at + 1];
    if (tag === undefined || length === undefined || tag === 0 || (tag & 0x1f) === 0x1f) throw new TypeError("not DER");
    let start = at + 2;
    if (length >= 0x80) {
      const count = length & 0x7f;
      if (count === 0 || count > 3) throw new TypeError("not DER");
      length = 0;
      for (let index = 0; index < count; index += 1) length = length * 256 + (der[start + index] ?? 0);
      start += count;
    }
    const end = start + length;
    if (end > der.length) throw new TypeError("not DER");
    nodes.push(nodeOf(tag, der.slice(start, end)));
    at = end;
  }
  return nodes;
}

function nodeOf(tag: number, contents: Uint8Array): Node {
  const none = new Uint8Array();
  const skip = tag === 0x03 ? 1 : 0;
  const mayHold = (tag & 0x20) !== 0 || tag === 0x04 || (tag === 0x03 && contents[0] === 0);
  if (!mayHold || contents.length <= skip) return { tag, contents, parts: null, prefix: none };
  try {
    return { tag, contents, parts: treeOf(contents.subarray(skip)), prefix: contents.slice(0, skip) };
  } catch (error) {
    if (error instanceof TypeError) return { tag, contents, parts: null, prefix: none };
    throw error;
  }
}

export const bytesOfTree = (nodes: readonly Node[]): Bytes =>
  concat(
    ...nodes.map(({ tag, contents, parts, prefix }) =>
      parts === null ? tlv(tag, contents) : tlv(tag, prefix, bytesOfTree(parts)),
    ),
  );
