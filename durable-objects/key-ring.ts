// The key ring of a worker that signs: hands around shared/rotation/ring.ts, which opens with the recovery table. One object a
// script, named "ring": its private halves leave neither the script nor the object.

import { DurableObject } from "cloudflare:workers";
import { KeyRing, type RingParts } from "../shared/rotation/ring.ts";
import type { RingSignerApi, RotatingKeysApi } from "../shared/rotation/service.ts";
import { sqlOf } from "./sql.ts";

export const ringName = "ring";

export type KeyRingParts = Omit<RingParts, "sql">;

export function keyRingObject<Env>(compose: (env: Env) => KeyRingParts) {
  return class KeyRingObject extends DurableObject<Env> implements RingSignerApi, RotatingKeysApi {
    readonly #ring: KeyRing;

    constructor(state: DurableObjectState, env: Env) {
      super(state, env);
      this.#ring = new KeyRing({ ...compose(env), sql: sqlOf(state.storage) });
    }

    current() {
      return this.#ring.current();
    }

    sign(...given: Parameters<RingSignerApi["sign"]>) {
      return this.#ring.sign(...given);
    }

    prepareKeys(rotation: string, slots: readonly string[]) {
      return this.#ring.prepareKeys(rotation, slots);
    }

    publishKeys(rotation: string) {
      return this.#ring.publishKeys(rotation);
    }

    activateKeys(rotation: string) {
      return this.#ring.activateKeys(rotation);
    }

    taintKeys(rotation: string) {
      return this.#ring.taintKeys(rotation);
    }

    revokeKeys(rotation: string, compromised: boolean) {
      return this.#ring.revokeKeys(rotation, compromised);
    }

    publishedKeys() {
      return this.#ring.publishedKeys();
    }
  };
}
