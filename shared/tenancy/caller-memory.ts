// Who held an API key when it was last looked up: made once an isolate, filled by authenticate.ts. What it says is a guess, and
// nobody is let in by it alone: a route that takes it has the key checked again with its answer (ADR-1223).

import type { Caller } from "./caller.ts";

/** So long after a look-up; so a key in use is looked up, and noted as used, at least as often. */
export const rememberedMsMax = 30_000;
/** Keys that an isolate remembers; beyond it the one that was looked up first is forgotten. */
const rememberedMax = 5_000;

/** SHA-256 of the key, in hex → its holder, and when that was looked up. */
export class CallerMemory {
  readonly #known = new Map<string, { readonly caller: Caller; readonly foundAt: number }>();

  /** A clock that went back makes a holder unknown, not known for longer. */
  get(keySha256: string, now: number): Caller | null {
    const known = this.#known.get(keySha256);
    if (known === undefined) return null;
    const age = now - known.foundAt;
    return age >= 0 && age < rememberedMsMax ? known.caller : null;
  }

  set(keySha256: string, caller: Caller, now: number): void {
    this.#known.delete(keySha256);
    this.#known.set(keySha256, { caller, foundAt: now });
    for (const oldest of this.#known.keys()) {
      if (this.#known.size <= rememberedMax) break;
      this.#known.delete(oldest);
    }
  }

  forget(keySha256: string): void {
    this.#known.delete(keySha256);
  }
}
