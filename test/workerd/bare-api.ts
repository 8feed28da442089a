// The API worker with one route more, for the PQL benchmark: it sends the statements of a question to Postgres as the product
// does, and nothing else: nobody is authenticated, nothing is parsed, priced or admitted, and the rows are the answer.
// scripts/bench/bench-api.ts makes its wrangler.toml out of the API's.

import type { SQL } from "drizzle-orm";
import { z } from "@hono/zod-openapi";
import { statementsOf } from "../../scripts/bench/pql-statements.ts";
import { inBatch } from "../../shared/tenancy/database.ts";
import api from "../../workers/api/index.ts";
import { partsOf } from "../../workers/api/compose.ts";
import type { Env } from "../../workers/api/env.ts";

export * from "../../workers/api/index.ts";

const bareQuestions = z.array(
  z.strictObject({
    tenant_id: z.string(),
    now: z.number(),
    query: z.string(),
    sealed_to: z.number().nullable(),
  }),
);

/** As in the source of a worker that was written for them. */
let prepared: readonly (readonly SQL[])[] = [];

export default {
  ...api,
  async fetch(request, env, context) {
    const { pathname } = new URL(request.url);
    if (pathname === "/bench/bare" && request.method === "PUT") {
      prepared = await Promise.all(
        bareQuestions.parse(await request.json()).map((question) => statementsOf(question, true)),
      );
      return Response.json({ prepared: prepared.length });
    }
    const number = /^\/bench\/bare\/(\d+)$/.exec(pathname)?.[1];
    if (number === undefined) return api.fetch(request, env, context);
    const statements = prepared[Number(number)];
    if (statements === undefined) return new Response(null, { status: 404 });
    const answers = await inBatch(partsOf(env).database, statements);
    return Response.json(answers.at(-1));
  },
} satisfies ExportedHandler<Env>;
