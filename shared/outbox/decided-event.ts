// The event of a decision, with what was decided on beside it: the event has its digest, and outbox.ts keeps the text with the
// event. Made by workers/api.

import { sha256Hex, utf8 } from "../contract/bytes.ts";
import { canonicalJson, type AuditEvent, type EventAttributes } from "../contract/events.ts";

/** No part of the event: what reads its members does not see it. */
const decidedOn = Symbol("decided on");

export type DecisionAttributes = EventAttributes<"mc.policy.decision">;
type Decided = AuditEvent & { readonly [decidedOn]?: string };

/** `input`: what the policy was asked. `eventOf` makes the event of its attributes, of which this adds the input's digest. */
export async function decidedEvent(
  input: object,
  eventOf: (digest: Pick<DecisionAttributes, "input_sha256">) => AuditEvent<"mc.policy.decision">,
): Promise<AuditEvent<"mc.policy.decision">> {
  const text = canonicalJson(input);
  return Object.assign(eventOf({ input_sha256: await sha256Hex(utf8(text)) }), { [decidedOn]: text });
}

/** The RFC 8785 text of what was decided on; null of any other event. */
export const inputOf = (event: AuditEvent): string | null => (event as Decided)[decidedOn] ?? null;
