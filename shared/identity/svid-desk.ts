// Where an isolate looks at SVIDs: what it remembers of them and of bundles, and how much work it does for strangers. Made once an
// isolate by compose.ts; called by authenticate-svid.ts.

import { Problem } from "../contract/problems.ts";
import { Admission } from "./admission.ts";
import type { AuthorityName } from "./authorities.ts";
import { BundleMemory } from "./bundle-memory.ts";
import { claimedIdOfLeaf, claimedIdOfToken } from "./claimed-id.ts";
import { JwtSvidCache, keyOfToken } from "./jwt-svid-cache.ts";
import type { verifyJwtSvid } from "./jwt-svid.ts";
import type { Checked } from "./refusal.ts";
import type { SpiffeId } from "./spiffe-id.ts";
import { keyOfChain, SvidCache } from "./svid-cache.ts";
import type { TrustBundle } from "./trust-bundle.ts";
import type { PaceBounds } from "./verification-pace.ts";
import type { verifyX509Svid } from "./x509-svid.ts";

export type PresentedSvid =
  | { readonly kind: "x509"; readonly chain: readonly Uint8Array[] }
  | { readonly kind: "jwt"; readonly token: string };

/**
 * A stranger costs some 4 ms with its look-up (docs/BENCHMARKS.md, `identity`), so that a flood takes a twenty-fifth of a processor. A fleet of
 * 300 that starts at once, and comes again as `identity_busy` tells it to, is in within 30 s where one isolate has all of it.
 */
const pace: PaceBounds = { atOnceMax: 4, everyMs: 100, waitMsMax: 1_000 };
/** Requests that wait for the first one with their SVID. */
const sharersMax = 256;
/** Of each kind. */
const svidsMax = 10_000;
const svidBytesMax = 8 * 1024 * 1024;

/** Whose SVID it is, and by which authority of its trust domain. */
export interface VerifiedSvid {
  readonly id: SpiffeId;
  readonly authority: AuthorityName;
}

export interface DeskParts {
  /** This service, as a JWT-SVID's `aud` names it. */
  readonly audience: string;
  readonly pause: (ms: number) => Promise<void>;
  readonly pace?: PaceBounds;
  readonly verifyX509?: typeof verifyX509Svid;
  readonly verifyJwt?: typeof verifyJwtSvid;
}

export class SvidDesk {
  readonly bundles = new BundleMemory();
  readonly #admission: Admission;
  readonly #x509: SvidCache;
  readonly #jwt: JwtSvidCache;

  constructor(parts: DeskParts) {
    this.#admission = new Admission(parts.pace ?? pace, sharersMax, parts.pause);
    const bounds = { entriesMax: svidsMax, bytesMax: svidBytesMax };
    this.#x509 = new SvidCache(bounds, parts.verifyX509);
    this.#jwt = new JwtSvidCache(parts.audience, bounds, parts.verifyJwt);
  }

  /**
   * Resolves when this SVID may be looked at: at once where it was verified before, though a bundle that has changed since has it
   * verified anew. Throws Problem `identity_busy` where too many others are before it.
   */
  async admit(presented: PresentedSvid, id: SpiffeId, now: number): Promise<void> {
    const isX509 = presented.kind === "x509";
    const key = await (isX509 ? keyOfChain(presented.chain, id.trustDomain) : keyOfToken(presented.token));
    const isKnown = (): boolean => (isX509 ? this.#x509 : this.#jwt).has(key);
    if (await this.#admission.admit(key, now, isKnown)) return;
    throw new Problem("identity_busy", "Too many SVIDs that are new here came at once.");
  }

  async verify(presented: PresentedSvid, bundle: TrustBundle, now: number): Promise<Checked<VerifiedSvid>> {
    const verified =
      presented.kind === "x509"
        ? await this.#x509.verify(presented.chain, bundle, now)
        : await this.#jwt.verify(presented.token, bundle, now);
    if (!verified.ok) return verified;
    const { id, authority } = verified.value;
    return { ok: true, value: { id, authority: { slot: presented.kind, kid: authority } } };
  }
}

/** Whom an SVID says it is of; nothing of it is proven. */
export function claimedId(presented: PresentedSvid): Checked<SpiffeId> {
  if (presented.kind === "jwt") {
    return claimedIdOfToken(presented.token) ?? refused("JWT-SVID 3.1", "the token has no SPIFFE ID as its sub");
  }
  const [leaf] = presented.chain;
  return leaf === undefined ? refused("X509-SVID 5.1", "there is no certificate") : claimedIdOfLeaf(leaf);
}

const refused = (section: string, reason: string): Checked<never> => ({ ok: false, refusal: { section, reason } });
