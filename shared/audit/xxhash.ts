// XXH64 of short ASCII texts in halves of 32 bits, and the split-block bloom filters over it: what hyparquet-writer's
// BloomBuilder makes, which hashes with bigints and takes ten times as long. For segment-columns.ts.
// https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md, https://github.com/apache/parquet-format/blob/master/BloomFilter.md

import { optimalNumBytes } from "hyparquet-writer/src/bloom.js";

// Each number of 64 bits as two integers of 32, high before low.
const [prime1High, prime1Low] = [0x9e3779b1, 0x85ebca87];
const [prime2High, prime2Low] = [0xc2b2ae3d, 0x27d4eb4f];
const [prime3High, prime3Low] = [0x165667b1, 0x9e3779f9];
const [prime4High, prime4Low] = [0x85ebca77, 0xc2b2ae63];
const [prime5High, prime5Low] = [0x27d4eb2f, 0x165667c5];

/** A number of 64 bits that is computed with in place. */
class Long {
  high = 0;
  low = 0;

  set(high: number, low: number): this {
    this.high = high | 0;
    this.low = low | 0;
    return this;
  }

  add(high: number, low: number): this {
    const sum = (this.low >>> 0) + (low >>> 0);
    this.high = (this.high + high + (sum > 0xffffffff ? 1 : 0)) | 0;
    this.low = sum | 0;
    return this;
  }

  multiply(high: number, low: number): this {
    const [a, b] = [this.low & 0xffff, this.low >>> 16];
    const [c, d] = [low & 0xffff, low >>> 16];
    // The upper half of the product of the lower halves; no sum exceeds 2^32 - 1.
    const middle = b * c + ((a * c) >>> 16);
    const other = a * d + (middle & 0xffff);
    const carry = b * d + (middle >>> 16) + (other >>> 16);
    this.high = (carry + Math.imul(this.high, low) + Math.imul(this.low, high)) | 0;
    this.low = Math.imul(this.low, low);
    return this;
  }

  /** By 1 to 31 bits. */
  rotate(bits: number): this {
    const { high, low } = this;
    this.high = (high << bits) | (low >>> (32 - bits));
    this.low = (low << bits) | (high >>> (32 - bits));
    return this;
  }

  xor(high: number, low: number): this {
    this.high ^= high;
    this.low ^= low;
    return this;
  }

  round(high: number, low: number): this {
    const lane = product.set(high, low).multiply(prime2High, prime2Low);
    return this.add(lane.high, lane.low).rotate(31).multiply(prime1High, prime1Low);
  }

  merge(lane: Long): this {
    const { high, low } = rounded.set(0, 0).round(lane.high, lane.low);
    return this.xor(high, low).multiply(prime1High, prime1Low).add(prime4High, prime4Low);
  }
}

const product = new Long();
const rounded = new Long();
const lanes = [new Long(), new Long(), new Long(), new Long()] as const;
const hash = new Long();

/** Of the first `length` bytes of `view`, with the seed 0. The result holds until the next call. */
export function xxhash64(view: DataView, length: number): { readonly high: number; readonly low: number } {
  let at = 0;
  const word = (offset: number): number => view.getInt32(offset, true);
  if (length >= 32) {
    const [first, second, third, fourth] = lanes;
    first.set(prime1High, prime1Low).add(prime2High, prime2Low);
    second.set(prime2High, prime2Low);
    third.set(0, 0);
    fourth.set(~prime1High, ~prime1Low).add(0, 1);
    for (; at + 32 <= length; at += 32) {
      first.round(word(at + 4), word(at));
      second.round(word(at + 12), word(at + 8));
      third.round(word(at + 20), word(at + 16));
      fourth.round(word(at + 28), word(at + 24));
    }
    hash.set(0, 0);
    for (const [index, lane] of lanes.entries()) {
      const { high, low } = rounded.set(lane.high, lane.low).rotate([1, 7, 12, 18][index]!);
      hash.add(high, low);
    }
    for (const lane of lanes) hash.merge(lane);
  } else hash.set(prime5High, prime5Low);
  hash.add(0, length);
  for (; at + 8 <= length; at += 8) {
    const { high, low } = rounded.set(0, 0).round(word(at + 4), word(at));
    hash.xor(high, low).rotate(27).multiply(prime1High, prime1Low).add(prime4High, prime4Low);
  }
  if (at + 4 <= length) {
    const { high, low } = product.set(0, word(at)).multiply(prime1High, prime1Low);
    hash.xor(high, low).rotate(23).multiply(prime2High, prime2Low).add(prime3High, prime3Low);
    at += 4;
  }
  for (; at < length; at += 1) {
    const { high, low } = product.set(0, view.getUint8(at)).multiply(prime5High, prime5Low);
    hash.xor(high, low).rotate(11).multiply(prime1High, prime1Low);
  }
  hash.xor(0, hash.high >>> 1); // by 33 bits
  hash.multiply(prime2High, prime2Low);
  hash.xor(hash.high >>> 29, (hash.high << 3) | (hash.low >>> 29));
  hash.multiply(prime3High, prime3Low);
  return hash.xor(0, hash.high);
}

const salts = [0x47b6137b, 0x44974d91, 0x8824ad5b, 0xa2b7289d, 0x705495c7, 0x2df1424b, 0x9efc4947, 0x5c6bfb31] as const;
const falsePositives = 0.01;
/** BloomBuilder caps its filters there; this needs 600,000 values. */
const filterBytesMax = 1024 * 1024;
const textBytesMax = 256;
const textBytes = new DataView(new ArrayBuffer(textBytesMax));

/** The filter of distinct texts, of which there is at least one; null where it is for BloomBuilder to make. */
export function bloomOf(texts: ReadonlySet<string>): Uint32Array | null {
  const hashes = new Int32Array(texts.size * 2);
  // By 53 of their 64 bits: two that are one by these may be one.
  const known = new Set<number>();
  let count = 0;
  for (const text of texts) {
    if (text.length > textBytesMax) return null;
    for (let at = 0; at < text.length; at += 1) {
      const code = text.charCodeAt(at);
      if (code > 127) return null;
      textBytes.setUint8(at, code);
    }
    const { high, low } = xxhash64(textBytes, text.length);
    known.add((high >>> 0) * 2 ** 21 + (low >>> 11));
    hashes[count] = high;
    hashes[count + 1] = low;
    count += 2;
  }
  const byteCount = optimalNumBytes(texts.size, falsePositives);
  if (known.size !== texts.size || texts.size === 0 || byteCount > filterBytesMax) return null;
  const words = new Uint32Array(byteCount / 4);
  const blocks = words.length / 8;
  for (let at = 0; at < hashes.length; at += 2) {
    const block = Math.floor(((hashes[at]! >>> 0) * blocks) / 2 ** 32) * 8;
    for (let word = 0; word < 8; word += 1)
      words[block + word]! |= 1 << (Math.imul(hashes[at + 1]!, salts[word]!) >>> 27);
  }
  return words;
}
