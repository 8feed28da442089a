// What a new event of the API needs to know of the call that makes it. For routes and denies.

import type { AuditEvent } from "../../shared/contract/events.ts";
import type { EventContext } from "../../shared/outbox/outbox.ts";
import type { Caller } from "../../shared/tenancy/caller.ts";
import type { Parts } from "./parts.ts";

/** The decision that let a call through, last made: of its role, then with its facts. Null: it is not told with a change. */
export interface Decided {
  event: AuditEvent<"mc.policy.decision"> | null;
}

export const eventContext = ({
  caller,
  now,
  parts,
  decided,
}: {
  readonly caller: Caller;
  readonly now: number;
  readonly parts: Parts;
  readonly decided?: Decided;
}): EventContext => ({
  tenant_id: caller.tenant_id,
  principal: caller.principal_id,
  source: "api",
  now,
  random: parts.random,
  decision: decided?.event ?? null,
});
