// What a fetcher of edge policy holds: its state as the store has it, and the bundles that were read back whole. Called by
// edge-fetcher.ts and fetch-policy.ts.

import type { Bytes } from "../contract/bytes.ts";
import { tarBytesMax } from "../contract/http-policies.ts";
import type { Believed } from "./believed.ts";
import type { EdgeFetcherParts } from "./fetcher-parts.ts";
import type { ActivePolicy, HeldState, Quarantined } from "./held-state.ts";
import { tarInside } from "./patch-tar.ts";
import { refusal, type Refusal } from "./refusal.ts";

export class HeldPolicies {
  readonly #parts: Pick<EdgeFetcherParts, "store" | "tools">;
  readonly #believed: Believed;
  #state: HeldState;
  /** Digests of bundles that this process has kept or read back whole. */
  readonly #whole = new Set<string>();

  constructor(parts: Pick<EdgeFetcherParts, "store" | "tools">, believed: Believed, state: HeldState) {
    this.#parts = parts;
    this.#believed = believed;
    this.#state = state;
  }

  get state(): HeldState {
    return this.#state;
  }

  /** Whoever signed it. */
  heldOf(path: string): ActivePolicy | null {
    return Object.hasOwn(this.#state.active, path) ? this.#state.active[path]! : null;
  }

  /** What is held and signed by a publisher that is believed now: a list that has changed counts at once. */
  activeOf(path: string): ActivePolicy | null {
    const held = this.heldOf(path);
    const kid = held?.publisher_kid ?? null;
    return kid !== null && this.#believed.kids.has(kid) ? held : null;
  }

  /** A statement that was judged under another list of publishers may be good under this one. */
  isJudgedNow({ code, publishers_sha256 }: Quarantined): boolean {
    return code !== "bad_statement" || publishers_sha256 === this.#believed.sha256;
  }

  /**
   * What is held under that digest (`heldSha256`) and served; null where the disk has lost it: the next refresh fetches it
   * again. What was packed here has no signed digest of its own: before this process takes it, its tar is compared.
   */
  async bytes(sha256: string): Promise<Bytes | null> {
    const bytes = await this.#parts.store.bundle(sha256);
    const packed = this.#whole.has(sha256)
      ? undefined
      : Object.values(this.#state.active).find(({ packed_sha256 }) => packed_sha256 === sha256);
    const isWhole = bytes !== null && (packed === undefined || (await this.#isTarOf(packed, bytes)));
    if (isWhole) this.#whole.add(sha256);
    else this.#whole.delete(sha256);
    return isWhole ? bytes : null;
  }

  async #isTarOf({ tar_sha256 }: ActivePolicy, bytes: Bytes): Promise<boolean> {
    const tar = await tarInside(bytes, tarBytesMax, this.#parts.tools);
    return tar.ok && tar.sha256 === tar_sha256;
  }

  /** Whether `bytes` gives something under that digest. */
  async isHere(sha256: string): Promise<boolean> {
    return this.#whole.has(sha256) || (await this.bytes(sha256)) !== null;
  }

  /** Null: the bundle is kept, on the disk. */
  async put(sha256: string, bytes: Bytes): Promise<Refusal | null> {
    const kept = await this.#parts.store.putBundle(sha256, bytes);
    if (!kept.ok) return notKept(kept.reason);
    this.#whole.add(sha256);
    return null;
  }

  /** Null: it is kept, or there was nothing new. The state in memory is never ahead of the one that a restart would find. */
  async keep(next: HeldState): Promise<Refusal | null> {
    if (JSON.stringify(next) === JSON.stringify(this.#state) && next.generation > 0) return null;
    const state = { ...next, generation: this.#state.generation + 1 };
    const kept = await this.#parts.store.swap(state);
    if (!kept.ok) return notKept(kept.reason);
    this.#state = state;
    return null;
  }
}

const notKept = (reason: string): Refusal => refusal("not_kept", `What came could not be kept: ${reason}`);
