// /api/whoami: who is calling. app.ts registers it at the door.

import { createRoute } from "@hono/zod-openapi";
import { whoami } from "../../../shared/contract/http-tenancy.ts";
import type { Door } from "../door.ts";

export function register(door: Door): void {
  door.route({
    action: "whoami.read",
    idempotency: "none",
    route: createRoute({
      method: "get",
      path: "/api/whoami",
      tags: ["tenancy"],
      summary: "Who is calling",
      description: "The tenant, principal and role behind the credential of this call.",
      responses: { 200: { description: "You.", content: { "application/json": { schema: whoami } } } },
    }),
    handler: async ({ caller }) => {
      const { tenant_id, tenant, principal_id, kind, role, credential, spiffe_id } = caller;
      return { status: 200, body: { tenant_id, tenant, principal_id, kind, role, credential, spiffe_id } };
    },
  });
}
