// The key ring of a worker that signs: hands around shared/rotation/ring.ts, which opens with the recovery table. One object a
// script, named "ring": its private halves leave neither the script nor the object.
//
// Any worker of the account can bind an object of another one's script. So each call has a pass, which is derived from a secret that
// the ring's own script alone has: whoever binds the ring from elsewhere signs nothing with it.

import { DurableObject } from "cloudflare:workers";
import { sha256Hex, utf8 } from "../shared/contract/bytes.ts";
import { KeyRing, RingFault, type RingParts } from "../shared/rotation/ring.ts";
import type { RingSignerApi, RotatingKeysApi, SlotKeysApi } from "../shared/rotation/service.ts";
import { sqlOf } from "./sql.ts";

const ringName = "ring";

export type KeyRingParts = Omit<RingParts, "sql">;
export type RingApi = RingSignerApi & RotatingKeysApi & SlotKeysApi;
type Methods = { readonly [Name in keyof RingApi]: (...given: unknown[]) => Promise<unknown> };

/** What the object asks of each call, as `ringAt` adds it. */
type Passed = {
  [Name in keyof RingApi]: (pass: string, ...given: Parameters<RingApi[Name]>) => ReturnType<RingApi[Name]>;
};

/** A digest of a secret key of the script tells nothing of it. */
const passOf = ({ name, slots }: KeyRingParts): Promise<string> =>
  sha256Hex(utf8(`maestro key ring pass v1\0${name}\0${slots.map(({ firstKey }) => firstKey).join("\0")}`));

const passes = new WeakMap<object, string>();

/** The ring, for the script that it is of: `parts` as its class has them. */
export function ringAt(namespace: DurableObjectNamespace, parts: KeyRingParts, name: string = ringName): RingApi {
  const call =
    (method: keyof RingApi) =>
    async (...given: unknown[]): Promise<unknown> => {
      const pass = passes.get(namespace) ?? (await passOf(parts));
      passes.set(namespace, pass);
      return await (namespace.getByName(name) as unknown as Methods)[method](pass, ...given);
    };
  return Object.fromEntries(ringMethods.map((method) => [method, call(method)])) as unknown as RingApi;
}

const ringMethods = [
  "current",
  "sign",
  "prepareKeys",
  "publishKeys",
  "activateKeys",
  "taintKeys",
  "revokeKeys",
  "withdrawKeys",
  "publishedKeys",
  "slotKeys",
] as const satisfies readonly (keyof RingApi)[];

export function keyRingObject<Env>(compose: (env: Env) => KeyRingParts) {
  return class KeyRingObject extends DurableObject<Env> implements Passed {
    readonly #ring: KeyRing;
    readonly #parts: KeyRingParts;
    #pass: string | null = null;

    constructor(state: DurableObjectState, env: Env) {
      super(state, env);
      this.#parts = compose(env);
      this.#ring = new KeyRing({ ...this.#parts, sql: sqlOf(state.storage) });
    }

    async current(pass: string) {
      return (await this.#own(pass)).current();
    }

    async sign(pass: string, ...given: Parameters<RingSignerApi["sign"]>) {
      return (await this.#own(pass)).sign(...given);
    }

    async prepareKeys(pass: string, rotation: string, slots: readonly string[]) {
      return (await this.#own(pass)).prepareKeys(rotation, slots);
    }

    async publishKeys(pass: string, rotation: string) {
      return (await this.#own(pass)).publishKeys(rotation);
    }

    async activateKeys(pass: string, rotation: string) {
      return (await this.#own(pass)).activateKeys(rotation);
    }

    async taintKeys(pass: string, rotation: string) {
      return (await this.#own(pass)).taintKeys(rotation);
    }

    async revokeKeys(pass: string, rotation: string, compromised: boolean) {
      return (await this.#own(pass)).revokeKeys(rotation, compromised);
    }

    async withdrawKeys(pass: string, rotation: string) {
      return (await this.#own(pass)).withdrawKeys(rotation);
    }

    async publishedKeys(pass: string) {
      return (await this.#own(pass)).publishedKeys();
    }

    async slotKeys(pass: string, slot: string) {
      return (await this.#own(pass)).slotKeys(slot);
    }

    async #own(pass: unknown): Promise<KeyRing> {
      this.#pass ??= await passOf(this.#parts);
      if (pass !== this.#pass) throw new RingFault(`the ring ${this.#parts.name} is called by its own script alone`);
      return this.#ring;
    }
  };
}
