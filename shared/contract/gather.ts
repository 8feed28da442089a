// Bytes that come in pieces, held in one place. Used wherever a stream that a stranger sends is read as a whole.

import type { Bytes } from "./bytes.ts";

const firstBytes = 4_096;

/**
 * What came so far, copied out of its pieces: a sender decides how small they are, and one that is kept holds far more than its bytes
 * (workerd gives 4 KiB to each, Node some 450 B). Never more than twice what came; how much may come is the caller's to bound.
 */
export class Gathered {
  #bytes: Bytes = new Uint8Array(0);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  add(piece: Uint8Array): void {
    const length = this.#length + piece.length;
    if (length > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(firstBytes, this.#bytes.length * 2, length));
      grown.set(this.#bytes.subarray(0, this.#length));
      this.#bytes = grown;
    }
    this.#bytes.set(piece, this.#length);
    this.#length = length;
  }

  /** All of it, for the caller to keep; what comes then begins anew. */
  take(): Bytes {
    const whole = this.#bytes.length === this.#length ? this.#bytes : this.#bytes.slice(0, this.#length);
    this.#bytes = new Uint8Array(0);
    this.#length = 0;
    return whole;
  }
}
