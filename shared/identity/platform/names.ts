// Which workers of the platform have an identity, and what their SPIFFE IDs are. Called by all who issue, present or check one.

import { parseSpiffeId, type SpiffeId } from "../spiffe-id.ts";

/** `authority`: the entrypoint of the signer's script that issues. It is called, and calls nobody. */
export const platformWorkers = ["api", "audit", "signer", "authority"] as const;
export type PlatformWorker = (typeof platformWorkers)[number];

/** Throws where the trust domain is none: a deployment without `PLATFORM_TRUST_DOMAIN` has no identities. */
export function platformId(trustDomain: string, worker: PlatformWorker): SpiffeId {
  const parsed = parseSpiffeId(`spiffe://${trustDomain}/platform/${worker}`);
  if (!parsed.ok) throw new TypeError(`PLATFORM_TRUST_DOMAIN is no trust domain: ${parsed.refusal.reason}`);
  return parsed.value;
}
