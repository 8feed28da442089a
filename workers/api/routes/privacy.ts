// /api/privacy: the tenant's budget.

import { createRoute } from "@hono/zod-openapi";
import { hex } from "../../../shared/contract/bytes.ts";
import { privacyBudget, privacyBudgetPut } from "../../../shared/contract/http-privacy.ts";
import { claimDigest, otherBody, rememberOnly } from "../../../shared/tenancy/idempotency.ts";
import type { Door } from "../door.ts";

const answer = {
  description: "Limit, leak and what is left",
  content: { "application/json": { schema: privacyBudget } },
};

export function register(door: Door): void {
  door.route({
    route: createRoute({
      method: "get",
      path: "/api/privacy/budget",
      summary: "Get the tenant's privacy budget",
      responses: { 200: answer },
    }),
    action: "budget.read",
    idempotency: "none",
    handler: async (call) => ({ status: 200, body: await call.parts.ledger(call.caller.tenant_id).balance() }),
  });

  door.route({
    route: createRoute({
      method: "put",
      path: "/api/privacy/budget",
      summary: "Set limit and leak; what was spent stays spent",
      request: { body: { content: { "application/json": { schema: privacyBudgetPut } }, required: true } },
      responses: { 200: answer },
    }),
    action: "budget.write",
    idempotency: "optional",
    decision: "before_the_change",
    handler: async (call) => {
      const { limit_units: limit, leak_units_per_hour: leak } = call.input.json;
      const { caller, claim, now, parts } = call;
      const intent = claim === null ? null : hex(await claimDigest(claim));
      const body = await parts.ledger(caller.tenant_id).configure(caller.principal_id, limit, leak, intent);
      // The ledger may know a key that Postgres does not: the call that sent it first ended between the two.
      if (body === null) throw otherBody();
      if (claim !== null) {
        // The ledger and Postgres share no transaction; after a crash in between, the ledger knows the intent.
        await rememberOnly(parts.database, claim, now, { status: 200, response: body });
      }
      return { status: 200, body };
    },
  });
}
