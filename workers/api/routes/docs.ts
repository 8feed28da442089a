// /openapi.json and /docs: the contract for machines and for people. app.ts registers them last.

import { createRoute, z } from "@hono/zod-openapi";
import { base64, sha256, utf8 } from "../../../shared/contract/bytes.ts";
import { decisionInput, type Action } from "../../../shared/policy/actions.ts";
import { decide, type Policy } from "../../../shared/policy/decide.ts";
import { docsPage, docsStyle } from "../docs-page.ts";
import type { Door, Entry } from "../door.ts";
import { openApiDocument, type OpenApiDocument } from "../openapi.ts";

const cacheControl = "public, max-age=60";

/** `entries` is the door's own table: complete once every module has registered. */
export function register(door: Door, entries: readonly Entry[]): void {
  let document: OpenApiDocument | undefined;
  const documentOf = (publicUrl: string): OpenApiDocument => (document ??= openApiDocument(entries, publicUrl));

  door.open({
    route: createRoute({
      method: "get",
      path: "/openapi.json",
      tags: ["service"],
      summary: "This contract, for machines",
      responses: {
        200: {
          description: "OpenAPI 3.1.",
          content: { "application/json": { schema: z.looseObject({ openapi: z.string() }).openapi("OpenApi") } },
        },
      },
    }),
    handler: async ({ parts }) => ({
      status: 200,
      body: { ...documentOf(parts.publicUrl) },
      headers: { "cache-control": cacheControl },
    }),
  });

  door.open({
    route: createRoute({
      method: "get",
      path: "/docs",
      tags: ["service"],
      summary: "This contract, for people",
      responses: { 200: { description: "This page.", content: { "text/html": { schema: z.string() } } } },
    }),
    handler: async ({ parts }) => ({
      status: 200,
      body: docsPage(documentOf(parts.publicUrl), (action) => rolesOf(parts.policy, action as Action)),
      headers: {
        "content-type": "text/html; charset=utf-8",
        "cache-control": cacheControl,
        "content-security-policy": `default-src 'none'; style-src 'sha256-${base64(await sha256(utf8(docsStyle)))}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`,
      },
    }),
  });
}

/** Whom the policy lets do this: asked of the policy itself, so that the page cannot say otherwise. */
const rolesOf = (policy: Policy, action: Action): readonly string[] =>
  decide(
    policy,
    decisionInput(action, {
      tenant_id: "",
      tenant: "",
      principal_id: "",
      kind: "service",
      role: "admin",
      credential: "key",
      fetcher_svids: { registered: false, everywhere: true },
      spiffe_id: null,
      spiffe_domain: null,
    }),
  ).roles_allowed;
