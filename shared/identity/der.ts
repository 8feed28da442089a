// DER, read strictly: one encoding of each value, and nothing after it. Called by the certificate's readers. The measure is
// Go's cryptobyte (what it refuses is refused here) and X.690; what is stricter says so.

import { refuse } from "./refusal.ts";

export const derTag = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  objectIdentifier: 0x06,
  utf8String: 0x0c,
  numericString: 0x12,
  printableString: 0x13,
  ia5String: 0x16,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

/** `[number]`, primitive. */
export const contextTag = (number: number): number => 0x80 | number;
/** `[number]`, constructed. */
export const contextConstructed = (number: number): number => 0xa0 | number;

export interface DerElement {
  readonly tag: number;
  readonly contents: Uint8Array;
  /** Tag, length and contents. */
  readonly whole: Uint8Array;
}

/** The elements of one constructed value (or of a whole document), front to back. Every method throws a refusal. */
export class DerReader {
  readonly #bytes: Uint8Array;
  readonly #what: string;
  #at = 0;

  /** `what`: how a refusal calls this value. */
  constructor(bytes: Uint8Array, what: string) {
    this.#bytes = bytes;
    this.#what = what;
  }

  get isEmpty(): boolean {
    return this.#at === this.#bytes.length;
  }

  isNext(tag: number): boolean {
    return this.#bytes[this.#at] === tag;
  }

  any(): DerElement {
    const bytes = this.#bytes;
    const start = this.#at;
    const tag = bytes[start];
    const first = bytes[start + 1];
    if (tag === undefined || first === undefined) refuse("X.690 8.1", `${this.#what} ends too early`);
    if ((tag & 0x1f) === 0x1f) refuse("X.690 8.1.2", `${this.#what} has a tag of several bytes`);
    if (tag === 0) refuse("X.690 8.1.5", `${this.#what} has an end-of-contents mark`);
    let length = first;
    let header = 2;
    if (first >= 0x80) {
      const count = first & 0x7f;
      if (count === 0) refuse("X.690 10.1", `${this.#what} has an indefinite length`);
      if (count > 4) refuse("X.690 8.1.3", `${this.#what} has a length of ${count} bytes`);
      length = 0;
      for (let index = 0; index < count; index += 1) {
        const digit = bytes[start + 2 + index];
        if (digit === undefined) refuse("X.690 8.1", `${this.#what} ends within a length`);
        length = length * 256 + digit;
      }
      const least = count === 1 ? 0x80 : 256 ** (count - 1);
      if (length < least) refuse("X.690 10.1", `${this.#what} has a length that is written too long`);
      header += count;
    }
    const end = start + header + length;
    if (end > bytes.length) refuse("X.690 8.1.3", `${this.#what} is shorter than it says`);
    this.#at = end;
    return { tag, contents: bytes.subarray(start + header, end), whole: bytes.subarray(start, end) };
  }

  element(tag: number): DerElement {
    if (!this.isNext(tag)) {
      const found = this.#bytes[this.#at];
      const seen = found === undefined ? "its end" : `tag 0x${found.toString(16).padStart(2, "0")}`;
      refuse("X.690 8.1.2", `${this.#what} has ${seen} where tag 0x${tag.toString(16).padStart(2, "0")} belongs`);
    }
    return this.any();
  }

  contents(tag: number): Uint8Array {
    return this.element(tag).contents;
  }

  /** The contents of the element, to be read to their end by `read`. */
  within<T>(tag: number, what: string, read: (inner: DerReader) => T): T {
    return readWhole(this.contents(tag), what, read);
  }

  /** Each element up to the end, of which there are at most `max`. */
  each(max: number, read: () => void): void {
    for (let count = 0; !this.isEmpty; count += 1) {
      if (count === max) refuse("bounds", `${this.#what} has more than ${max} elements`);
      read();
    }
  }

  boolean(): boolean {
    const contents = this.contents(derTag.boolean);
    const [byte] = contents;
    if (contents.length !== 1 || (byte !== 0 && byte !== 0xff))
      refuse("X.690 11.1", `${this.#what} has no DER boolean`);
    return byte === 0xff;
  }

  /** The digits of an integer that is not negative: big-endian, without the zero that only keeps it positive. */
  unsigned(): Uint8Array {
    const digits = this.contents(derTag.integer);
    const [first, second = 0] = digits;
    if (first === undefined) refuse("X.690 8.3.1", `${this.#what} has an empty integer`);
    if (first >= 0x80) refuse("X.690 8.3.3", `${this.#what} has a negative integer`);
    if (first === 0 && digits.length > 1 && second < 0x80) {
      refuse("X.690 8.3.2", `${this.#what} has an integer that is written too long`);
    }
    return first === 0 && digits.length > 1 ? digits.subarray(1) : digits;
  }

  /** An integer from 0 to `max`, which is at most 2^31 - 1. */
  small(max: number): number {
    const digits = this.unsigned();
    const value = digits.length > 4 ? Number.POSITIVE_INFINITY : digits.reduce((sum, digit) => sum * 256 + digit, 0);
    if (value > max) refuse("bounds", `${this.#what} has a number above ${max}`);
    return value;
  }

  /** Dotted: `2.5.29.15`. */
  objectIdentifier(): string {
    const bytes = this.contents(derTag.objectIdentifier);
    const components: number[] = [];
    let value = 0;
    let isInside = false;
    for (const byte of bytes) {
      if (!isInside && byte === 0x80) refuse("X.690 8.19.2", `${this.#what} has an object identifier written too long`);
      // As Go: a component fits 31 bits.
      if (value >= 2 ** 24) refuse("X.690 8.19", `${this.#what} has an object identifier beyond 31 bits`);
      value = value * 128 + (byte & 0x7f);
      isInside = byte >= 0x80;
      if (!isInside) {
        components.push(value);
        value = 0;
      }
    }
    const [head, ...rest] = components;
    if (head === undefined || isInside) refuse("X.690 8.19", `${this.#what} has an object identifier without an end`);
    const root = Math.min(2, Math.floor(head / 40));
    return [root, head - root * 40, ...rest].join(".");
  }

  /** A bit string of whole bytes: a key or a signature. (Go takes others too.) */
  wholeBytes(): Uint8Array {
    const contents = this.contents(derTag.bitString);
    if (contents[0] !== 0) refuse("X.690 8.6.2", `${this.#what} has a bit string that is not whole bytes`);
    return contents.subarray(1);
  }

  /** A bit string as the numbers of its bits that are set. */
  bits(): ReadonlySet<number> {
    const contents = this.contents(derTag.bitString);
    const [unused, ...bytes] = contents;
    const last = bytes.at(-1);
    if (unused === undefined || unused > 7 || (last === undefined && unused !== 0)) {
      refuse("X.690 8.6.2", `${this.#what} has a broken bit string`);
    }
    if (last !== undefined && (last & ((1 << unused) - 1)) !== 0) {
      refuse("X.690 11.2.1", `${this.#what} has a bit string whose unused bits are set`);
    }
    const set = new Set<number>();
    for (const [index, byte] of bytes.entries()) {
      for (let bit = 0; bit < 8; bit += 1) if ((byte & (0x80 >> bit)) !== 0) set.add(index * 8 + bit);
    }
    return set;
  }

  end(): void {
    if (!this.isEmpty) refuse("X.690 8.1", `${this.#what} has bytes after its end`);
  }
}

/** Reads all of `bytes` by `read`: what it leaves over is a refusal. */
export function readWhole<T>(bytes: Uint8Array, what: string, read: (reader: DerReader) => T): T {
  const reader = new DerReader(bytes, what);
  const value = read(reader);
  reader.end();
  return value;
}

const depthMax = 8;
const elementsMax = 256;

/** Refuses what is not DER down to its leaves; for parts that are not understood further, and need not be. */
export function checkWellFormed(contents: Uint8Array, what: string, depth = 0): void {
  if (depth > depthMax) refuse("bounds", `${what} is nested more than ${depthMax} deep`);
  const reader = new DerReader(contents, what);
  reader.each(elementsMax, () => {
    const { tag, contents: inner } = reader.any();
    if ((tag & 0x20) !== 0) checkWellFormed(inner, what, depth + 1);
  });
}
