// /api/decisions: what a decision of the policy was made on, for whoever asks it again. app.ts registers it at the door.

import { createRoute, z } from "@hono/zod-openapi";
import { decisionRecord, eventId } from "../../../shared/contract/http-decisions.ts";
import { Problem } from "../../../shared/contract/problems.ts";
import { readDecision } from "../../../shared/policy/decision-store.ts";
import type { Door } from "../door.ts";

export function register(door: Door): void {
  door.route({
    route: createRoute({
      method: "get",
      path: "/api/decisions/{id}",
      tags: ["audit"],
      summary: "What a decision was made on",
      description:
        "The input of a decision that the log has under this event's id, for 400 days, and what the log says of it. " +
        "`maestro policy replay` asks the policy again.",
      request: { params: z.strictObject({ id: eventId }) },
      responses: { 200: { description: "The decision", content: { "application/json": { schema: decisionRecord } } } },
    }),
    action: "audit.read",
    idempotency: "none",
    problems: ["not_found"],
    handler: async ({ parts, caller, input }) => {
      const body = await readDecision(parts.database, caller.tenant_id, input.params.id);
      if (body === null) throw new Problem("not_found", `No decision is kept under ${input.params.id}.`);
      return { status: 200, body };
    },
  });
}
