// What a new event of the API needs to know of the call that makes it. For routes and denies.

import type { EventContext } from "../../shared/outbox/outbox.ts";
import type { Caller } from "../../shared/tenancy/caller.ts";
import type { Parts } from "./parts.ts";

export const eventContext = ({
  caller,
  now,
  parts,
}: {
  readonly caller: Caller;
  readonly now: number;
  readonly parts: Parts;
}): EventContext => ({
  tenant_id: caller.tenant_id,
  principal: caller.principal_id,
  source: "api",
  now,
  random: parts.random,
});
