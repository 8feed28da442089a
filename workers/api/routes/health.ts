// /healthz: can this API reach its database and its audit log? Load balancers and `npm start` ask it; app.ts registers it.

import { createRoute, z } from "@hono/zod-openapi";
import { trustDomainName } from "../../../shared/contract/http-identity.ts";
import { timestamp } from "../../../shared/contract/names.ts";
import { sharedDomains } from "../../../shared/identity/store.ts";
import { pingDatabase } from "../../../shared/tenancy/store.ts";
import type { Door } from "../door.ts";
import { errorFacts } from "../middleware/problem.ts";

const state = z.enum(["ok", "unreachable"]);
const identity = z.strictObject({
  trust_domain: trustDomainName,
  confirmed_at: timestamp.nullable().describe("when a good bundle came last; null: never"),
  first_authority_ends_at: timestamp.nullable(),
  alarm: z.boolean().describe("a third of that authority's life is left, or less"),
});
const health = z
  .strictObject({
    status: z.enum(["ok", "degraded"]),
    database: state,
    audit: state,
    identities: z
      .array(identity)
      .max(100)
      .nullable()
      .describe("trust domains that tenants share; their alarms do not make the API unwell. null: they cannot be read"),
  })
  .openapi("Health");

export function register(door: Door): void {
  door.open({
    route: createRoute({
      method: "get",
      path: "/healthz",
      tags: ["service"],
      summary: "Is it well",
      description: "503 while the database or the audit log cannot be reached. Ask every few seconds, not more often.",
      responses: {
        200: { description: "All is well.", content: { "application/json": { schema: health } } },
        503: { description: "Something cannot be reached.", content: { "application/json": { schema: health } } },
      },
    }),
    handler: async ({ parts, request_id, now }) => {
      let identities: z.infer<typeof health>["identities"] = null;
      const check = async (name: string, ask: () => Promise<unknown>): Promise<z.infer<typeof state>> => {
        try {
          await ask();
          return "ok";
        } catch (error) {
          parts.log("error", `${name} unreachable`, { request_id, ...errorFacts(error) });
          return "unreachable";
        }
      };
      const [database, audit] = await Promise.all([
        check("database", async () => {
          await pingDatabase(parts.database);
          identities = await sharedDomains(parts.authDatabase, now);
        }),
        check("audit", () => parts.audit.keys()),
      ]);
      return database === "ok" && audit === "ok"
        ? { status: 200, body: { status: "ok" as const, database, audit, identities } }
        : { status: 503, body: { status: "degraded" as const, database, audit, identities } };
    },
  });
}
