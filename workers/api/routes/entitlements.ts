// /api/market/entitlements: what a tenant may install and run.

import { createRoute, z } from "@hono/zod-openapi";
import { entitlementSet, entitlementUpsert } from "../../../shared/contract/http-entitlements.ts";
import { Problem } from "../../../shared/contract/problems.ts";
import { LostToSameKey } from "../../../shared/tenancy/idempotency.ts";
import type { Door } from "../door.ts";
import { eachPackageOnce } from "../market/entitlement-rows.ts";
import { ifMatch } from "../middleware/if-match.ts";
import { noEntitlements } from "../market/refusals.ts";

const json = <S extends z.ZodType>(schema: S) => ({ "application/json": { schema } });

export function register(door: Door): void {
  door.route({
    route: createRoute({
      method: "get",
      path: "/api/market/entitlements",
      summary: "Get tenant entitlements",
      responses: { 200: { description: "The whole set, with its version as ETag", content: json(entitlementSet) } },
    }),
    action: "entitlement.read",
    idempotency: "none",
    headersOf: etagOf,
    handler: async (call) => {
      const listed = await call.parts.entitlements(call.caller.tenant_id).list();
      if (listed.state === "unavailable") throw noEntitlements();
      return { status: 200, body: listed.set };
    },
  });

  door.route({
    route: createRoute({
      method: "put",
      path: "/api/market/entitlements",
      summary: "Upsert tenant entitlements",
      request: {
        headers: z.object({
          "if-match": z.string().optional().describe("ETags that you saw, or `*`; 412 where none is current"),
        }),
        body: { content: json(entitlementUpsert), required: true },
      },
      responses: { 200: { description: "The whole set after the change", content: json(entitlementSet) } },
    }),
    action: "entitlement.write",
    idempotency: "optional",
    decision: "before_the_change",
    problems: ["version_conflict"],
    headersOf: etagOf,
    handler: async (call) => {
      eachPackageOnce(call.input.json.entitlements);
      const result = await call.parts.entitlements(call.caller.tenant_id).put({
        upsert: call.input.json,
        principal_id: call.caller.principal_id,
        claim: call.claim,
        if_versions: versionsOf(ifMatch(call.request.headers.get("if-match"))),
      });
      if (result.state === "unavailable") throw noEntitlements();
      if (result.state === "lost_to_same_key") throw new LostToSameKey();
      if (result.state === "version_conflict") {
        throw new Problem("version_conflict", `The set is at version ${result.version} now.`, {
          version: result.version,
        });
      }
      call.parts.nudgeDrain(call.caller.tenant_id);
      return { status: 200, body: result.set };
    },
  });
}

/** An ETag that is none of ours was never current. */
const versionsOf = (tags: readonly string[] | null): number[] | null =>
  tags === null ? null : tags.flatMap((tag) => (/^v\d{1,15}$/.test(tag) ? [Number(tag.slice(1))] : []));

function etagOf(body: unknown): Record<string, string> {
  return { etag: `"v${entitlementSet.parse(body).version}"` };
}
