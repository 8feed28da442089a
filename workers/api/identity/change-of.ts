// What a change of the tenant's identities is written with: by whom, with which event, under which Idempotency-Key. Called by the
// routes of /api/identity.

import type { AuditEvent } from "../../../shared/contract/events.ts";
import type { Change } from "../../../shared/identity/store.ts";
import { outboxInsert } from "../../../shared/outbox/outbox.ts";
import type { Call } from "../door.ts";

type AnyCall = Pick<Call, "caller" | "now" | "parts" | "claim">;

export const changeOf = ({ caller, now, parts, claim }: AnyCall, event: AuditEvent): Change => ({
  now,
  principal_id: caller.principal_id,
  outbox: (where) => outboxInsert([event], parts.shards, where),
  claim,
});
