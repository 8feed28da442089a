// Takes a bundle document into force, with its event: for PUT …/bundle and for the refresh from endpoints. Two that come at once are
// put in an order by comparing what each was decided on with what stands there.

import type { AuditEvent } from "../../../shared/contract/events.ts";
import type { BundleTaken } from "../../../shared/contract/http-identity.ts";
import { factsOfBundle, receiveDocument } from "../../../shared/identity/receive-document.ts";
import type { Refusal } from "../../../shared/identity/refusal.ts";
import { parseTrustDomain } from "../../../shared/identity/spiffe-id.ts";
import { heldBundle, keepBundle, noteRefusal } from "../../../shared/identity/store.ts";
import { newEvent, outboxInsert } from "../../../shared/outbox/outbox.ts";
import type { IdempotencyClaim } from "../../../shared/tenancy/idempotency.ts";
import type { Parts } from "../parts.ts";

/** Tries against others who hand in at the same time. */
const triesMax = 4;

export interface HandedIn {
  readonly tenant_id: string;
  /** Null: nobody asked; it was fetched from the endpoint. */
  readonly principal: string | null;
  readonly name: string;
  readonly document: string;
  readonly outcome: "handed_in" | "refreshed";
  /** The stated URL that it was fetched from; it counts while that is stated. Null: it was handed in. */
  readonly endpoint: string | null;
  readonly now: number;
  readonly claim: IdempotencyClaim | null;
  /** What let the call through; null where nobody asked. */
  readonly decision: AuditEvent<"mc.policy.decision"> | null;
}

export type TakenBundle =
  | { readonly state: "taken"; readonly bundle: BundleTaken }
  | { readonly state: "refused"; readonly refusal: Refusal }
  /** The tenant states no such domain, or no such endpoint any more. */
  | { readonly state: "missing" }
  | { readonly state: "overtaken" };

/** `taken`: in force, committed with its event. `refused`: the domain says why from now on, and its bundle is as it was. */
export async function takeBundle(
  parts: Pick<Parts, "database" | "random" | "shards" | "nudgeDrain" | "nudgeTrust">,
  { tenant_id, principal, name, document, outcome, endpoint, now, claim, decision }: HandedIn,
): Promise<TakenBundle> {
  const domain = parseTrustDomain(name);
  if (!domain.ok) return { state: "missing" };
  for (let attempt = 0; attempt < triesMax; attempt += 1) {
    const held = await heldBundle(parts.database, tenant_id, name, endpoint);
    if (held === null) return { state: "missing" };
    const received = await receiveDocument(domain.value, held, document);
    if (!received.ok) {
      const { reason, section } = received.refusal;
      await noteRefusal(parts.database, tenant_id, name, `${reason} (${section})`, now, endpoint);
      return { state: "refused", refusal: received.refusal };
    }
    const { bundle } = received.value;
    const context = { tenant_id, principal, source: "api", now, random: parts.random, decision } as const;
    const event = newEvent(context, "mc.identity.bundle_changed", {
      trust_domain: name,
      bundle_sha256: bundle.digest,
      sequence: bundle.sequence,
      authority_count: bundle.authorities.length,
      jwt_key_count: bundle.jwtKeys.size,
      outcome,
    });
    const response = await factsOfBundle(bundle);
    const outbox = (where: Parameters<typeof outboxInsert>[2]) => outboxInsert([event], parts.shards, where);
    const change = { now, outbox, claim, response, endpoint };
    if (await keepBundle(parts.database, tenant_id, name, held, received.value, change)) {
      parts.nudgeDrain(tenant_id);
      if (held.sha256 !== bundle.digest) await parts.nudgeTrust(name);
      return { state: "taken", bundle: response };
    }
  }
  return { state: "overtaken" };
}
