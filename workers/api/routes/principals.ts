// /api/principals: who a tenant's pseudonymous principals are, and the erasure of a person. The log holds the principal's id
// only, so every proof holds after it.

import { createRoute, z } from "@hono/zod-openapi";
import { principalId, principalList } from "../../../shared/contract/http-tenancy.ts";
import { Problem } from "../../../shared/contract/problems.ts";
import { newEvent, outboxInsert } from "../../../shared/outbox/outbox.ts";
import { erasePrincipal, listPrincipals, principalsListed } from "../../../shared/tenancy/store.ts";
import type { Door } from "../door.ts";
import { eventContext } from "../event-context.ts";
import { notFound } from "../middleware/problem.ts";

const tags = ["tenancy"];

export function register(door: Door): void {
  door.route({
    action: "principal.list",
    idempotency: "none",
    route: createRoute({
      method: "get",
      path: "/api/principals",
      tags,
      summary: "List the tenant's principals, and who they are outside",
      description: `Newest first, at most ${principalsListed}.`,
      responses: {
        200: { description: "The principals.", content: { "application/json": { schema: principalList } } },
      },
    }),
    handler: async ({ parts, caller }) => ({
      status: 200,
      body: { principals: await listPrincipals(parts.database, caller.tenant_id) },
    }),
  });

  door.route({
    action: "principal.erase",
    idempotency: "optional",
    problems: ["not_found", "own_identity"],
    route: createRoute({
      method: "delete",
      path: "/api/principals/{id}/identities",
      tags,
      summary: "Erase the person behind a principal",
      description:
        "Drops what ties the principal to an outside identity, for good: their tokens are refused from the answer on, and nothing here tells any more who they were. The principal's id stays in the log, whose proofs hold. Keys that they made stay, and are revoked by themselves. Erasing again changes nothing.",
      request: { params: z.strictObject({ id: principalId }) },
      responses: { 204: { description: "Nothing ties the principal to anyone." } },
    }),
    handler: async (call) => {
      const { parts, caller, now, claim, input } = call;
      const { id } = input.params;
      if (id === caller.principal_id) throw new Problem("own_identity", "This principal is your own.");
      const event = newEvent(eventContext(call), "mc.principal.erased", { principal_id: id });
      const outbox = (where: Parameters<typeof outboxInsert>[2]) => outboxInsert([event], parts.shards, where);
      if (!(await erasePrincipal(parts.database, caller.tenant_id, now, id, outbox, claim))) throw notFound();
      parts.nudgeDrain(caller.tenant_id);
      return { status: 204, body: null };
    },
  });
}
