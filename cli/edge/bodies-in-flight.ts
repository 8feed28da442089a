// The bundles that are on their way to OPAs of this machine, bounded in bytes: one copy of each, however many wait for it. Used by
// opa-server.ts, so that as many connections as it takes cannot fill the memory.

import type { Bytes } from "../../shared/contract/bytes.ts";
import { bundleBytesMax } from "../../shared/contract/http-policies.ts";

/** All bodies together: four of the largest. */
export const inFlightBytesMax = 4 * bundleBytesMax;

interface Body {
  readonly bytes: Promise<Bytes | null>;
  /** What is set aside for it: what the largest could have until it was read, then what it has. */
  reserved: number;
  users: number;
}

/** `done` is to be called once, when nobody reads the bytes any more. */
export type Taken = { readonly bytes: Bytes | null; readonly done: () => void } | "no_room";

export class BodiesInFlight {
  readonly #bytesMax: number;
  readonly #bodies = new Map<string, Body>();
  #reserved = 0;

  constructor(bytesMax: number = inFlightBytesMax) {
    this.#bytesMax = bytesMax;
  }

  /** Of all that is being read or sent. */
  get reserved(): number {
    return this.#reserved;
  }

  /** `read`: the bytes of that digest, null where they are lost. Rejects where it rejects. */
  async take(sha256: string, read: () => Promise<Bytes | null>): Promise<Taken> {
    const body = this.#bodies.get(sha256) ?? this.#begin(sha256, read);
    if (body === null) return "no_room";
    body.users += 1;
    let isDone = false;
    const done = (): void => {
      if (isDone) return;
      isDone = true;
      body.users -= 1;
      if (body.users > 0) return;
      this.#reserve(body, 0);
      if (this.#bodies.get(sha256) === body) this.#bodies.delete(sha256);
    };
    try {
      const bytes = await body.bytes;
      // Shrunk once, by whoever comes first.
      if (bytes !== null && body.reserved > bytes.length) this.#reserve(body, bytes.length);
      if (bytes === null) done();
      return { bytes, done };
    } catch (error) {
      done();
      throw error;
    }
  }

  #begin(sha256: string, read: () => Promise<Bytes | null>): Body | null {
    if (this.#reserved + bundleBytesMax > this.#bytesMax) return null;
    const body: Body = { bytes: read(), reserved: 0, users: 0 };
    this.#reserve(body, bundleBytesMax);
    this.#bodies.set(sha256, body);
    return body;
  }

  #reserve(body: Body, bytes: number): void {
    this.#reserved += bytes - body.reserved;
    body.reserved = bytes;
  }
}
