// Signers whose keys are in a ring: for whoever signs in the ring's worker. What the ring answered of its keys is remembered, and
// only ever believed by asking: the ring refuses a kid that does not sign any more.

import type { Bytes } from "../contract/bytes.ts";
import type { Signer } from "../signing/keys.ts";
import { messagesMax, type CurrentKey, type RingSignerApi } from "./service.ts";

/** A rotation takes a key a second at most; a signature some milliseconds. */
const attemptsMax = 4;

class Rotated extends Error {
  override readonly name = "Rotated";
}

export class RingSigners {
  readonly #ring: () => RingSignerApi;
  #keys: Promise<readonly CurrentKey[]> | undefined;

  constructor(ring: () => RingSignerApi) {
    this.#ring = ring;
  }

  /**
   * What `work` makes with signers of the keys that sign now; made anew where they rotated under it. `at`: the time that is said
   * in what is signed, in ms. Throws what `work` and the ring throw.
   */
  async sign<T>(at: number, work: (signerOf: (slot: string) => Signer) => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt += 1) {
      const keys = await this.#current();
      try {
        return await work((slot) => this.#signer(keys, slot, at));
      } catch (error) {
        if (!(error instanceof Rotated) || attempt >= attemptsMax) throw error;
        this.#keys = undefined;
      }
    }
  }

  #current(): Promise<readonly CurrentKey[]> {
    this.#keys ??= this.#ring()
      .current()
      .catch((error: unknown) => {
        this.#keys = undefined;
        throw error;
      });
    return this.#keys;
  }

  #signer(keys: readonly CurrentKey[], slot: string, at: number): Signer {
    const key = keys.find((one) => one.slot === slot);
    if (key === undefined) throw new TypeError(`the ring has no slot ${slot}`);
    const { kid, algorithm, spki } = key;
    let batch: Batch | null = null;
    // What is asked for in the same turn goes in one call.
    const open = (): Batch => {
      const messages: Bytes[] = [];
      const send = async (): Promise<readonly Bytes[]> => {
        if (batch === opened) batch = null;
        const answer = await this.#ring().sign(slot, kid, at, messages);
        if (answer.state === "rotated") throw new Rotated(`${slot}: another key than ${kid} signs`);
        return answer.signatures.map((signature) => new Uint8Array(signature));
      };
      const opened: Batch = { messages, signatures: Promise.resolve().then(send) };
      return opened;
    };
    return {
      kid,
      algorithm,
      spki: new Uint8Array(spki),
      async sign(bytes) {
        if (batch === null || batch.messages.length >= messagesMax) batch = open();
        const place = batch.messages.push(new Uint8Array(bytes)) - 1;
        const signature = (await batch.signatures)[place];
        if (signature === undefined) throw new TypeError("the ring gave too few signatures");
        return signature;
      },
    };
  }
}

interface Batch {
  readonly messages: Bytes[];
  readonly signatures: Promise<readonly Bytes[]>;
}
