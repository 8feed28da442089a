// POST /api/pql: questions to the tenant's log.

import { createRoute } from "@hono/zod-openapi";
import { pqlReply, pqlRequest } from "../../../shared/contract/http-pql.ts";
import { Problem } from "../../../shared/contract/problems.ts";
import { answerQuestion, type AskParts } from "../../../shared/pql/ask.ts";
import { PqlError } from "../../../shared/pql/pql-error.ts";
import type { Door } from "../door.ts";
import type { Parts } from "../parts.ts";

/** The answer to one caller in one format; a shared cache must not have it, and each use asks again. */
const cacheHeaders = { "cache-control": "private, no-cache", vary: "Accept, Authorization" } as const;

const askPartsOf = ({ database, clock, meter, noteQueryTime, answers }: Parts, tenantId: string): AskParts => ({
  database,
  clock,
  cache: answers,
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
      responses: {
        200: {
          description:
            "The answer. Counts by bucket have an `ETag` while nothing is logged: send it in `If-None-Match` to hear whether they still hold",
          content: { "application/json": { schema: pqlReply } },
        },
        304: { description: "What the `ETag` in `If-None-Match` names still holds; `covers.to` alone would be later" },
      },
    }),
    action: "pql.query",
    idempotency: "none",
    problems: ["pql_invalid", "pql_too_expensive", "pql_rate_limited", "too_many_rows", "meter_unavailable"],
    handler: async ({ parts, caller, now, input, request }) => {
      try {
        const { query, cursor, explain = false } = input.json;
        const asked = { tenant_id: caller.tenant_id, now, query, cursor, explain };
        const { body, etag } = await answerQuestion(askPartsOf(parts, caller.tenant_id), {
          ...asked,
          if_none_match: request.headers.get("if-none-match"),
          representation: "json",
        });
        const headers = etag === null ? {} : { etag, ...cacheHeaders };
        return body === null ? { status: 304, body, headers } : { status: 200, body, headers };
      } catch (error) {
        if (!(error instanceof PqlError)) throw error;
        const { line, column, expected, suggestion } = error;
        throw new Problem("pql_invalid", error.message, { line, column, expected, suggestion });
      }
    },
  });
}
