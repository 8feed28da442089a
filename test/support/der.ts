// Reads DER into a tree that can be changed and written again: for certificates that tests break.

import { concat, type Bytes } from "../../shared/contract/bytes.ts";
import { tlv } from "../../shared/identity/issue/der-writer.ts";

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
