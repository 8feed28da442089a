// /api/flags: what a tenant has switched off. Through the tenant's Entitlements object, so that once a change has
// answered, no check sees the old flag.

import { createRoute, type z } from "@hono/zod-openapi";
import { flagChange, flagList } from "../../../shared/contract/http-flags.ts";
import { LostToSameKey } from "../../../shared/tenancy/idempotency.ts";
import type { Door } from "../door.ts";
import { tellEdge } from "../tell-edge.ts";
import { noEntitlements } from "../market/refusals.ts";

const json = <S extends z.ZodType>(schema: S) => ({ "application/json": { schema } });

export function register(door: Door): void {
  door.route({
    route: createRoute({
      method: "get",
      path: "/api/flags",
      summary: "The tenant's flags, and what off means",
      responses: { 200: { description: "Every flag", content: json(flagList) } },
    }),
    action: "flag.read",
    idempotency: "none",
    handler: async (call) => {
      const answer = await call.parts.entitlements(call.caller.tenant_id).flags();
      if (answer.state === "unavailable") throw noEntitlements();
      return { status: 200, body: answer.flags };
    },
  });

  door.route({
    route: createRoute({
      method: "put",
      path: "/api/flags",
      summary: "Switch a flag on or off",
      request: { body: { content: json(flagChange), required: true } },
      responses: { 200: { description: "Every flag, after the change", content: json(flagList) } },
    }),
    action: "flag.write",
    idempotency: "optional",
    decision: "before_the_change",
    handler: async (call) => {
      const { tenant_id: tenantId, principal_id } = call.caller;
      const change = { change: call.input.json, principal_id, claim: call.claim };
      const result = await call.parts.entitlements(tenantId).putFlag(change);
      if (result.state === "unavailable") throw noEntitlements();
      if (result.state === "lost_to_same_key") throw new LostToSameKey();
      call.parts.nudgeDrain(tenantId);
      if (call.input.json.flag === "spiffe_everywhere") await tellEdge(call);
      return { status: 200, body: result.flags };
    },
  });
}
