// JWT-SVIDs that were verified, so that a caller's next request costs a digest instead of a signature. One an isolate, for one
// audience. Only what held is kept; each hit looks at the time and at the bundle again.

import { sha256Hex, utf8 } from "../contract/bytes.ts";
import { skewSeconds, verifyJwtSvid, type JwtSvid } from "./jwt-svid.ts";
import type { Checked } from "./refusal.ts";
import type { CacheBounds } from "./svid-cache.ts";
import type { TrustBundle } from "./trust-bundle.ts";

/** Without its audience: one of them is the cache's, and whoever signs tokens may write kilobytes of others. */
export type KnownJwtSvid = Omit<JwtSvid, "audience">;

interface Entry {
  readonly svid: KnownJwtSvid;
  readonly verifiedAtMs: number;
  readonly bundleDigest: string;
  readonly bytes: number;
}

const bytesOfEntry = 256;

export class JwtSvidCache {
  readonly #audience: string;
  readonly #bounds: CacheBounds;
  readonly #verify: typeof verifyJwtSvid;
  /** By digest of the token; least recently used first. */
  readonly #entries = new Map<string, Entry>();
  #bytes = 0;

  constructor(audience: string, bounds: CacheBounds, verify: typeof verifyJwtSvid = verifyJwtSvid) {
    this.#audience = audience;
    this.#bounds = bounds;
    this.#verify = verify;
  }

  /** Something is kept under this key of `keyOfToken`; whether it still holds, `verify` finds out. */
  has(key: string): boolean {
    return this.#entries.has(key);
  }

  /** `verifyJwtSvid`, or what it said of the same token under the same bundle, at a time at which that still holds. */
  async verify(token: string, bundle: TrustBundle, now: number): Promise<Checked<KnownJwtSvid>> {
    const key = await keyOfToken(token);
    const known = this.#entries.get(key);
    this.#forget(key);
    if (known !== undefined && stillHolds(known, bundle, now)) {
      this.#keep(key, known);
      return { ok: true, value: known.svid };
    }
    const verified = await this.#verify(token, bundle, { audience: this.#audience, now });
    this.#forget(key);
    if (!verified.ok) return verified;
    const { id, untilMs, authority } = verified.value;
    const svid = { id, untilMs, authority };
    const bytes = bytesOfEntry + key.length + id.uri.length;
    this.#keep(key, { svid, verifiedAtMs: now, bundleDigest: bundle.digest, bytes });
    return { ok: true, value: svid };
  }

  /** For tests. */
  get size(): { readonly entries: number; readonly bytes: number } {
    return { entries: this.#entries.size, bytes: this.#bytes };
  }

  #forget(key: string): void {
    this.#bytes -= this.#entries.get(key)?.bytes ?? 0;
    this.#entries.delete(key);
  }

  #keep(key: string, entry: Entry): void {
    this.#entries.set(key, entry);
    this.#bytes += entry.bytes;
    for (const oldest of this.#entries.keys()) {
      if (this.#entries.size <= this.#bounds.entriesMax && this.#bytes <= this.#bounds.bytesMax) return;
      this.#forget(oldest);
    }
  }
}

/** A clock that went back may have gone before the token's `nbf`: it is asked anew. */
const stillHolds = ({ svid, verifiedAtMs, bundleDigest }: Entry, bundle: TrustBundle, now: number): boolean =>
  bundleDigest === bundle.digest && now >= verifiedAtMs && now < svid.untilMs + skewSeconds * 1_000;

/** What this token is called: one name for the same bytes. */
export const keyOfToken = (token: string): Promise<string> => sha256Hex(utf8(token));
