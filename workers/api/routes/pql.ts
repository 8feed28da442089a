// POST /api/pql: questions to the tenant's log.

import { createRoute, z } from "@hono/zod-openapi";
import { pqlReply, pqlRequest } from "../../../shared/contract/http-pql.ts";
import { Problem } from "../../../shared/contract/problems.ts";
import { answerQuestion, type AskParts } from "../../../shared/pql/ask.ts";
import { inFormat, type PqlFormat } from "../../../shared/pql/formats.ts";
import { PqlError } from "../../../shared/pql/pql-error.ts";
import type { Door } from "../door.ts";
import type { Parts } from "../parts.ts";
import { requireGrammar } from "../pql-grammar.ts";

const binary = z.string().openapi({ format: "binary" });
const told = (what: string): z.ZodType => z.string().optional().describe(`${what}; in every format but JSON`);

/** The answer to one caller in one format; a shared cache must not have it, and each use asks again. */
const cacheHeaders = { "cache-control": "private, no-cache", vary: "Authorization" } as const;

/** What an answer's tag says of its format. */
const representations: Readonly<Record<PqlFormat, string>> = {
  "application/json": "json",
  "application/x-ndjson": "ndjson",
  "text/csv": "csv",
  "application/vnd.apache.parquet": "parquet",
};

const askPartsOf = (parts: Parts, tenantId: string): AskParts => ({
  database: parts.database,
  clock: parts.clock,
  cache: parts.answers,
  sealed: parts.sealedCounts,
  meter: parts.meter(tenantId),
  requireGrammar: (query, text) => requireGrammar(parts, tenantId, query, text),
  note: (time) => parts.noteQueryTime(tenantId, time),
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
            "The answer, in the format that Accept asks for; an explanation is JSON. Counts by bucket have an `ETag` while nothing is logged: send it in `If-None-Match` to hear whether they still hold",
          content: {
            "application/json": { schema: pqlReply },
            "application/x-ndjson": { schema: z.string().describe("an object a line") },
            "text/csv": { schema: z.string().describe("RFC 4180, with a header") },
            "application/vnd.apache.parquet": { schema: binary },
          } satisfies Record<PqlFormat, unknown>,
          headers: z.object({
            "PQL-Covers": told("`covers`, as from/to"),
            "PQL-Complete-To": told("`complete_to`, where there is one"),
            "PQL-Next-Cursor": told("`next_cursor`, where there is a next page"),
            "PQL-Field": told("`field`, what TOP groups by"),
            "PQL-Bucket-Ms": told("`bucket_ms`"),
            "PQL-Price": told("`price`, as JSON"),
          }),
        },
        304: { description: "What the `ETag` in `If-None-Match` names still holds; `covers.to` alone would be later" },
      },
    }),
    action: "pql.query",
    idempotency: "none",
    credential: "checked_with_the_answer",
    problems: ["pql_invalid", "pql_too_expensive", "pql_rate_limited", "too_many_rows", "meter_unavailable"],
    handler: async ({ parts, caller, check, now, input, request, mediaType }) => {
      try {
        const { query, cursor, explain = false } = input.json;
        const { body, etag } = await answerQuestion(askPartsOf(parts, caller.tenant_id), {
          tenant_id: caller.tenant_id,
          now,
          query,
          cursor,
          explain,
          if_none_match: request.headers.get("if-none-match"),
          representation: representations[mediaType],
          proviso: check,
        });
        const headers = etag === null ? {} : { etag, ...cacheHeaders };
        if (body === null) return { status: 304, body, headers };
        if (body.kind === "explain") return { status: 200, body };
        const formatted = inFormat(mediaType, body);
        return { status: 200, body: formatted.body, headers: { ...headers, ...formatted.headers } };
      } catch (error) {
        if (!(error instanceof PqlError)) throw error;
        const { line, column, expected, suggestion } = error;
        throw new Problem("pql_invalid", error.message, { line, column, expected, suggestion });
      }
    },
  });
}
