// The audit worker's entry: the consumers of the audit queues and of their dead letters, the cron, the RPC for the API,
// and the classes of its Durable Objects. It has no route of its own, and no method without an SVID.

import { WorkerEntrypoint } from "cloudflare:workers";
import { auditLogObject } from "../../durable-objects/audit-log.ts";
import { disclosureGrantsObject } from "../../durable-objects/disclosure-grants.ts";
import { keyRingObject } from "../../durable-objects/key-ring.ts";
import { logAnchorObject } from "../../durable-objects/log-anchor.ts";
import type { GuardedService, WorkerAnswer } from "../../shared/identity/platform/service.ts";
import { sweepLogs } from "./activity.ts";
import { anchorLogs } from "./witnesses.ts";
import { auditLogParts, auditRingParts, disclosureGrantsParts, logAnchorParts, partsOf } from "./compose.ts";
import { consume, consumeDead, deadQueue } from "./consumer.ts";
import type { Env } from "./env.ts";

/** service.ts, behind the door. */
export class AuditService extends WorkerEntrypoint<Env> implements GuardedService {
  call(svid: string, method: string, given: readonly unknown[]): Promise<WorkerAnswer> {
    const { door, service } = partsOf(this.env);
    return door.call(svid, method, given, service);
  }
}

export const AuditLog = auditLogObject<Env>(auditLogParts);
export const DisclosureGrants = disclosureGrantsObject<Env>(disclosureGrantsParts);

export const AuditRing = keyRingObject<Env>(auditRingParts);

export const LogAnchor = logAnchorObject<Env>(logAnchorParts);

export default {
  fetch: () => new Response(null, { status: 404 }),

  async queue(batch, env) {
    const { consumer } = partsOf(env);
    await (batch.queue === deadQueue ? consumeDead : consume)(batch.messages, consumer);
  },

  async scheduled(_controller, env) {
    const parts = partsOf(env);
    // Heads first: the sweep strikes out logs that have come to rest. Witnesses keep neither waiting.
    await anchorLogs(parts, "collect");
    await Promise.all([sweepLogs(parts), anchorLogs(parts, "cosign")]);
  },
} satisfies ExportedHandler<Env>;
