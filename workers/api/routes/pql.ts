// POST /api/pql: questions to the tenant's log.

import { createRoute } from "@hono/zod-openapi";
import { pqlAnswer, pqlRequest } from "../../../shared/contract/http-pql.ts";
import { Problem } from "../../../shared/contract/problems.ts";
import { askPql } from "../../../shared/pql/engine.ts";
import { PqlError } from "../../../shared/pql/pql-error.ts";
import type { Door } from "../door.ts";

export function register(door: Door): void {
  door.route({
    route: createRoute({
      method: "post",
      path: "/api/pql",
      tags: ["pql"],
      summary: "Ask the tenant's log in PQL 1.2",
      description:
        "FIND subject [WHERE …] [BUCKET BY 1h] [TOP 10 BY field] [SINCE 24h]. Without BUCKET BY and TOP the answer is rows, " +
        "newest first, in pages; with them it is counts that add up. docs/pql/LANGUAGE.md has the language.",
      request: { body: { content: { "application/json": { schema: pqlRequest } }, required: true } },
      responses: { 200: { description: "The answer", content: { "application/json": { schema: pqlAnswer } } } },
    }),
    action: "pql.query",
    idempotency: "none",
    problems: ["pql_invalid", "too_many_rows"],
    handler: async ({ parts, caller, now, input }) => {
      try {
        const { query, cursor } = input.json;
        return { status: 200, body: await askPql(parts.database, { tenant_id: caller.tenant_id, now, query, cursor }) };
      } catch (error) {
        if (!(error instanceof PqlError)) throw error;
        const { line, column, expected, suggestion } = error;
        throw new Problem("pql_invalid", error.message, { line, column, expected, suggestion });
      }
    },
  });
}
