// The trust bundles of tenants, from the provider's own store: fresh for 5 s at most, and never one that is older than one that
// this instance has seen, of the same statement of the trust domain (ADR-1246). Called by workloads.ts.

import { utf8Text } from "../../shared/contract/bytes.ts";
import { statedKey, trustKey } from "../../shared/edge/serving-path.ts";
import { parseStated } from "../../shared/edge/stated.ts";
import { emptyBundleState, receiveBundle, type BundleState } from "../../shared/identity/bundle-state.ts";
import type { Refusal } from "../../shared/identity/refusal.ts";
import type { TrustDomain } from "../../shared/identity/spiffe-id.ts";
import type { TrustBundle } from "../../shared/identity/trust-bundle.ts";
import type { CacheRule, EdgeCache, Entry, Source } from "./cache.ts";

/** So long a bundle is believed after it was read: an authority that was revoked may be believed for so long. */
export const trustMsMax = 5_000;
const rule: CacheRule = { digest: null, freshMs: trustMsMax, missingMs: 1_000 };
/** An API of before has none beside any bundle. */
const statedRule: CacheRule = { ...rule, missingMs: trustMsMax };
/** Of bundles that were read into keys; the longest unused is forgotten, and with it which sequence it had. */
const statesMax = 1_024;
const stateBytesMax = 8 * 1_024 * 1_024;
/** How often a bundle is looked at anew because another request has taken one up meanwhile. */
const racesMax = 4;

export type TrustOutcome = { readonly source: Source } & (
  | { readonly state: "found"; readonly bundle: TrustBundle }
  | { readonly state: "missing" }
  /** The store does not answer, or what it has cannot be believed. */
  | { readonly state: "unavailable" }
);

interface Held {
  readonly state: BundleState;
  /** Of which statement of the trust domain; null: no store has said so. */
  readonly statedMs: number | null;
  readonly bytes: number;
}

export class TrustBundles {
  readonly #cache: EdgeCache;
  readonly #onRefused: (refusal: Refusal) => void;
  /** The longest unused first. */
  readonly #held = new Map<string, Held>();
  #bytes = 0;
  /** With the statement that it was refused as a bundle of. */
  readonly #refused = new WeakMap<Entry, number | null>();

  /** `onRefused`: told of each document that is no bundle, or that goes back. */
  constructor(cache: EdgeCache, onRefused: (refusal: Refusal) => void) {
    this.#cache = cache;
    this.#onRefused = onRefused;
  }

  async find(tenant: string, trustDomain: TrustDomain, now: number): Promise<TrustOutcome> {
    const key = trustKey(tenant, trustDomain);
    const [read, stated] = await Promise.all([
      this.#cache.read(key, rule),
      this.#cache.read(statedKey(tenant, trustDomain), statedRule),
    ]);
    const { source } = read;
    if (read.state === "missing") return { state: "missing", source };
    if (read.state !== "found") return { state: "unavailable", source };
    const { entry } = read;
    const said = stated.state === "found" ? parseStated(stated.entry.bytes) : null;
    // The two files are written one after the other: what is said of another bundle says nothing of this one.
    const statedMs = said !== null && entry.etag === `"${said.bundle_sha256}"` ? said.stated_ms : null;
    if (this.#refused.get(entry) === statedMs) return { state: "unavailable", source };
    const bundle = await this.#take(key, trustDomain, { entry, statedMs }, now);
    return bundle === null ? { state: "unavailable", source } : { state: "found", bundle, source };
  }

  /** The bundle in `entry`; null where it cannot be believed after what was seen before it. */
  async #take(
    key: string,
    trustDomain: TrustDomain,
    { entry, statedMs }: { readonly entry: Entry; readonly statedMs: number | null },
    now: number,
  ): Promise<TrustBundle | null> {
    for (let races = 0; races < racesMax; races += 1) {
      const before = this.#held.get(key);
      const known = before?.statedMs ?? null;
      const isAnew = known !== null && statedMs !== null && statedMs > known;
      const newest = isAnew ? statedMs : (known ?? statedMs);
      const bundle = before?.state.bundle ?? null;
      if (before !== undefined && bundle !== null && entry.etag === `"${bundle.digest}"`) {
        this.#keep(key, before.statedMs === newest ? before : { ...before, statedMs: newest });
        return bundle;
      }
      const held = isAnew || before === undefined ? emptyBundleState(trustDomain, now) : before.state;
      const isOfBefore = known !== null && statedMs !== null && statedMs < known;
      const state = isOfBefore ? null : await receiveBundle(held, textOf(entry.bytes), now);
      // Another request took one up meanwhile: whether this one may follow is to be seen anew.
      if (this.#held.get(key) !== before) continue;
      const refusal = state === null ? ofBefore : (state.refused?.refusal ?? null);
      if (state === null || refusal !== null) {
        this.#refused.set(entry, statedMs);
        this.#onRefused(refusal ?? ofBefore);
        return null;
      }
      this.#keep(key, { state, statedMs: newest, bytes: entry.bytes.length });
      return state.bundle;
    }
    return null;
  }

  #keep(key: string, held: Held): void {
    this.#bytes += held.bytes - (this.#held.get(key)?.bytes ?? 0);
    this.#held.delete(key);
    this.#held.set(key, held);
    for (const [oldest, old] of this.#held) {
      if (oldest === key || (this.#held.size <= statesMax && this.#bytes <= stateBytesMax)) return;
      this.#held.delete(oldest);
      this.#bytes -= old.bytes;
    }
  }
}

const ofBefore: Refusal = {
  section: "ADR-1246",
  reason: "the bundle is of the trust domain as it was stated before, and it was stated anew",
};

/** What is no UTF-8 is no bundle either. */
function textOf(bytes: Uint8Array): string {
  try {
    return utf8Text(bytes);
  } catch {
    return "";
  }
}
