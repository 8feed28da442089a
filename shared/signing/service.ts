// What the signer worker offers the API worker over its service binding. Types only.

import type { SignedBundle } from "../contract/events.ts";
import type { PublishedKey } from "../contract/http-audit.ts";

export type Countersignature =
  | { readonly ok: true; readonly bundle: SignedBundle }
  | { readonly ok: false; readonly reason: string };

export interface SignerServiceApi {
  /** Checks the publisher's signature with the key given (SPKI DER in base64), and signs a statement over the same artifact. */
  countersign(publisherBundle: SignedBundle, publisherSpki: string): Promise<Countersignature>;
  keys(): Promise<PublishedKey[]>;
}
