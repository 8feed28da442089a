// JWT-SVIDs that were verified, so that a caller's next request costs a digest instead of a signature. One an isolate, for one
// audience. Only what held is kept; each hit looks at the time and at the bundle again.

import { sha256Hex, utf8 } from "../contract/bytes.ts";
import { skewSeconds, verifyJwtSvid, type JwtSvid } from "./jwt-svid.ts";
import type { Checked } from "./refusal.ts";
import type { TrustBundle } from "./trust-bundle.ts";

interface Entry {
  readonly svid: JwtSvid;
  readonly verifiedAtMs: number;
  readonly bundleDigest: string;
}

export class JwtSvidCache {
  readonly #audience: string;
  readonly #entriesMax: number;
  readonly #verify: typeof verifyJwtSvid;
  /** By digest of the token; least recently used first. */
  readonly #entries = new Map<string, Entry>();

  constructor(audience: string, entriesMax: number, verify: typeof verifyJwtSvid = verifyJwtSvid) {
    this.#audience = audience;
    this.#entriesMax = entriesMax;
    this.#verify = verify;
  }

  /** Something is kept under this key of `keyOfToken`; whether it still holds, `verify` finds out. */
  has(key: string): boolean {
    return this.#entries.has(key);
  }

  /** `verifyJwtSvid`, or what it said of the same token under the same bundle, at a time at which that still holds. */
  async verify(token: string, bundle: TrustBundle, now: number): Promise<Checked<JwtSvid>> {
    const key = await keyOfToken(token);
    const known = this.#entries.get(key);
    this.#entries.delete(key);
    if (known !== undefined && stillHolds(known, bundle, now)) {
      this.#entries.set(key, known);
      return { ok: true, value: known.svid };
    }
    const verified = await this.#verify(token, bundle, { audience: this.#audience, now });
    this.#entries.delete(key);
    if (verified.ok) {
      this.#entries.set(key, { svid: verified.value, verifiedAtMs: now, bundleDigest: bundle.digest });
      for (const oldest of this.#entries.keys()) {
        if (this.#entries.size <= this.#entriesMax) break;
        this.#entries.delete(oldest);
      }
    }
    return verified;
  }
}

/** A clock that went back may have gone before the token's `nbf`: it is asked anew. */
const stillHolds = ({ svid, verifiedAtMs, bundleDigest }: Entry, bundle: TrustBundle, now: number): boolean =>
  bundleDigest === bundle.digest && now >= verifiedAtMs && now < svid.untilMs + skewSeconds * 1_000;

/** What this token is called: one name for the same bytes. */
export const keyOfToken = (token: string): Promise<string> => sha256Hex(utf8(token));
