// POST /api/pql: questions to the tenant's log.

import { createRoute } from "@hono/zod-openapi";
import { pqlReply, pqlRequest } from "../../../shared/contract/http-pql.ts";
import { Problem } from "../../../shared/contract/problems.ts";
import { answerQuestion, type AskParts } from "../../../shared/pql/ask.ts";
import { PqlError } from "../../../shared/pql/pql-error.ts";
import type { Door } from "../door.ts";
import type { Parts } from "../parts.ts";

const askPartsOf = ({ database, clock, meter, noteQueryTime }: Parts, tenantId: string): AskParts => ({
  database,
  clock,
  meter: meter(tenantId),
  note: (time) => noteQueryTime(tenantId, time),
});

export function register(door: Door): void {
  door.route({
    route: createRoute({
      method: "post",
      path: "/api/pql",
      tags: ["pql"],
      summary: "Ask the tenant's log in PQL 1.2",
      description:
        "FIND subject [WHERE …] [BUCKET BY 1h] [TOP 10 BY field] [SINCE 24h]. Without BUCKET BY and TOP the answer is rows, " +
        "newest first, in pages; with them it is counts that add up. What it reads is known before anything is read, and is in " +
        "each answer as `price`; with `explain` nothing is read. docs/pql/LANGUAGE.md has the language.",
      request: { body: { content: { "application/json": { schema: pqlRequest } }, required: true } },
      responses: { 200: { description: "The answer", content: { "application/json": { schema: pqlReply } } } },
    }),
    action: "pql.query",
    idempotency: "none",
    problems: ["pql_invalid", "pql_too_expensive", "pql_rate_limited", "too_many_rows", "meter_unavailable"],
    handler: async ({ parts, caller, now, input }) => {
      try {
        const { query, cursor, explain = false } = input.json;
        const question = { tenant_id: caller.tenant_id, now, query, cursor, explain };
        return { status: 200, body: await answerQuestion(askPartsOf(parts, caller.tenant_id), question) };
      } catch (error) {
        if (!(error instanceof PqlError)) throw error;
        const { line, column, expected, suggestion } = error;
        throw new Problem("pql_invalid", error.message, { line, column, expected, suggestion });
      }
    },
  });
}
