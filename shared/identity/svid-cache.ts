// X.509-SVIDs that were verified, so that a caller's next request costs a digest instead of signatures. One an isolate, held by
// whoever verifies. Only what held is kept; each hit looks at the time and at the bundle again.

import { concat, sha256Hex } from "../contract/bytes.ts";
import type { Checked } from "./refusal.ts";
import type { TrustDomain } from "./spiffe-id.ts";
import type { TrustBundle } from "./trust-bundle.ts";
import { verifyX509Svid, type X509Svid } from "./x509-svid.ts";

interface Entry {
  readonly svid: X509Svid;
  readonly sequence: number | null;
  readonly bundleDigest: string;
  readonly bytes: number;
}

export interface CacheBounds {
  readonly entriesMax: number;
  /** Of keys, IDs and public keys; what an engine adds is not counted. */
  readonly bytesMax: number;
}

const bytesOfEntry = 256;

export class SvidCache {
  readonly #bounds: CacheBounds;
  readonly #verify: typeof verifyX509Svid;
  /** Least recently used first. By trust domain and digest of the chain. */
  readonly #entries = new Map<string, Entry>();
  #bytes = 0;
  #hits = 0;

  constructor(bounds: CacheBounds, verify: typeof verifyX509Svid = verifyX509Svid) {
    this.#bounds = bounds;
    this.#verify = verify;
  }

  /** Something is kept under this key of `keyOfChain`; whether it still holds, `verify` finds out. */
  has(key: string): boolean {
    return this.#entries.has(key);
  }

  /** `verifyX509Svid`, or what it said of the same bytes, the same bundle, and a time at which that still holds. */
  async verify(chain: readonly Uint8Array[], bundle: TrustBundle, now: number): Promise<Checked<X509Svid>> {
    const key = await keyOfChain(chain, bundle.trustDomain);
    const known = this.#entries.get(key);
    if (known !== undefined) {
      this.#forget(key, known);
      if (stillHolds(known, bundle, now)) {
        this.#keep(key, known);
        this.#hits += 1;
        return { ok: true, value: known.svid };
      }
    }
    const verified = await this.#verify(chain, bundle, now);
    const raced = this.#entries.get(key);
    if (raced !== undefined) this.#forget(key, raced);
    if (verified.ok) {
      const svid = { ...verified.value, spki: verified.value.spki.slice() };
      const bytes = bytesOfEntry + key.length + svid.id.uri.length + svid.spki.length;
      this.#keep(key, { svid, sequence: bundle.sequence, bundleDigest: bundle.digest, bytes });
    }
    return verified;
  }

  /** For metrics and tests. */
  get size(): { readonly entries: number; readonly bytes: number; readonly hits: number } {
    return { entries: this.#entries.size, bytes: this.#bytes, hits: this.#hits };
  }

  #forget(key: string, entry: Entry): void {
    this.#entries.delete(key);
    this.#bytes -= entry.bytes;
  }

  #keep(key: string, entry: Entry): void {
    this.#entries.set(key, entry);
    this.#bytes += entry.bytes;
    for (const [oldest, old] of this.#entries) {
      if (this.#entries.size <= this.#bounds.entriesMax && this.#bytes <= this.#bounds.bytesMax) return;
      this.#forget(oldest, old);
    }
  }
}

const stillHolds = ({ svid, sequence, bundleDigest }: Entry, bundle: TrustBundle, now: number): boolean =>
  now >= svid.fromMs && now <= svid.untilMs && sequence === bundle.sequence && bundleDigest === bundle.digest;

/** What this chain is called among those of its trust domain: one name for the same bytes, and another one for others. */
export const keyOfChain = async (chain: readonly Uint8Array[], trustDomain: TrustDomain): Promise<string> =>
  `${trustDomain} ${await digestOf(chain)}`;

/** Each length goes before its bytes, so that no two chains are one. */
const digestOf = (chain: readonly Uint8Array[]): Promise<string> =>
  sha256Hex(concat(...chain.flatMap((der) => [new Uint8Array(new Uint32Array([der.length]).buffer), der])));
