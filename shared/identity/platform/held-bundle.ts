// The authority's bundle as an isolate holds it: for some seconds at most, so that what was revoked is believed nowhere once these
// are over. One an isolate, asked by whoever checks an SVID of a worker.
//
// No request waits for another one's question to the authority: a request of a Worker cannot rely on that. While the bundle is
// good, one request has it asked for again behind its back; where it is not, each asks for itself.

import type { Clock } from "../../contract/ports.ts";
import { parseTrustDomain } from "../spiffe-id.ts";
import { parseTrustBundle, type TrustBundle } from "../trust-bundle.ts";
import type { AuthorityBundle } from "./service.ts";

/** From before the authority was asked. A revocation waits for as long (docs/ROTATION.md). */
export const bundleLeaseMs = 5_000;
/** From this age on it is asked for again while it is used. */
const refreshAfterMs = 2_500;
/** Who asks again has so long, before somebody else may. */
const refreshMsMax = 1_000;
/** A token of a key that is not in it has it asked for at once, but not twice within this time. */
const unknownKeyEveryMs = 100;

export interface HeldBundleParts {
  readonly trustDomain: string;
  readonly clock: Clock;
  readonly ask: () => Promise<AuthorityBundle>;
  /** Lets work go on after the answer. It never rejects. */
  readonly later: (work: Promise<unknown>) => void;
}

export interface Held {
  readonly bundle: TrustBundle;
  readonly document: string;
  /** The kid of the key that signs. */
  readonly active: string;
  readonly active_since: string;
}

export class HeldBundle {
  readonly #parts: HeldBundleParts;
  #held: Held | null = null;
  /** When the question began that the held one answered. */
  #askedAtMs = Number.NEGATIVE_INFINITY;
  #refreshingSinceMs = Number.NEGATIVE_INFINITY;

  constructor(parts: HeldBundleParts) {
    this.#parts = parts;
  }

  /** Rejects where none is good and the authority gives none. */
  async get(): Promise<Held> {
    const now = this.#parts.clock();
    const ageMs = now - this.#askedAtMs;
    // A clock that went back makes none young again.
    if (this.#held === null || ageMs >= bundleLeaseMs || ageMs < 0) return await this.#ask();
    this.keepFresh();
    return this.#held;
  }

  /** Has it asked for again where it is no longer young, without waiting. */
  keepFresh(): void {
    const now = this.#parts.clock();
    const ageMs = now - this.#askedAtMs;
    if (ageMs >= 0 && ageMs < refreshAfterMs) return;
    if (now - this.#refreshingSinceMs >= 0 && now - this.#refreshingSinceMs < refreshMsMax) return;
    this.#refreshingSinceMs = now;
    // What failed is asked again by the next one, and shows where the lease ends.
    this.#parts.later(this.#ask().catch(() => undefined));
  }

  /** For a token whose key is not in the held one: the newest, where it was not asked for just now. */
  async newest(): Promise<Held> {
    const ageMs = this.#parts.clock() - this.#askedAtMs;
    return this.#held !== null && ageMs >= 0 && ageMs < unknownKeyEveryMs ? this.#held : await this.#ask();
  }

  /** As it is known, without asking. */
  get known(): Held | null {
    return this.#held;
  }

  async #ask(): Promise<Held> {
    const askedAt = this.#parts.clock();
    const { document, active, active_since } = await this.#parts.ask();
    const domain = parseTrustDomain(this.#parts.trustDomain);
    if (!domain.ok) throw new TypeError(`PLATFORM_TRUST_DOMAIN is no trust domain: ${domain.refusal.reason}`);
    const parsed = await parseTrustBundle(domain.value, document);
    if (!parsed.ok) throw new Error(`the authority's bundle is none: ${parsed.refusal.reason}`);
    const same = this.#held?.bundle.digest === parsed.value.digest ? this.#held.bundle : parsed.value;
    const held = { bundle: same, document, active, active_since };
    // Two answers may come in another order than their questions were asked.
    if (askedAt >= this.#askedAtMs && !isBefore(held, this.#held)) {
      this.#held = held;
      this.#askedAtMs = askedAt;
    }
    return this.#held ?? held;
  }
}

const isBefore = (one: Held, other: Held | null): boolean =>
  other !== null && (one.bundle.sequence ?? 0) < (other.bundle.sequence ?? 0);
