// What the signer worker offers the API worker over its service binding. Types only.

import type { SignedBundle } from "../contract/events.ts";
import type { Channel } from "../contract/names.ts";

export type Countersignature =
  | { readonly ok: true; readonly bundle: SignedBundle }
  | { readonly ok: false; readonly reason: string };

/** A channel's move, and the release that it moves to with both of its signatures. */
export interface PointerRequest {
  readonly publisher_bundle: SignedBundle;
  /** SPKI DER in base64. */
  readonly publisher_spki: string;
  readonly marketplace_bundle: SignedBundle;
  readonly channel: Channel;
  readonly sequence: number;
  /** RFC 3339. */
  readonly moved_at: string;
}

export interface SignerServiceApi {
  /** Checks the publisher's signature with the key given (SPKI DER in base64), and signs a statement over the same artifact. */
  countersign(publisherBundle: SignedBundle, publisherSpki: string): Promise<Countersignature>;
  /** Signs where a channel points, for a release that this signer has countersigned. Signing twice is harmless. */
  pointer(request: PointerRequest): Promise<Countersignature>;
}
