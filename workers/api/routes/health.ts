// /healthz: can this API reach its database and its audit log? Load balancers and `npm start` ask it; app.ts registers it.

import { createRoute } from "@hono/zod-openapi";
import { health, type Health } from "../../../shared/contract/http-health.ts";
import { isoTime } from "../../../shared/contract/iso-time.ts";
import { isNearItsEnd } from "../../../shared/identity/near-its-end.ts";
import { domainsHealth } from "../../../shared/identity/store.ts";
import { pingDatabase } from "../../../shared/tenancy/store.ts";
import type { Door } from "../door.ts";
import { inTime } from "../in-time.ts";
import { errorFacts } from "../middleware/problem.ts";

/** Of the database and of the audit worker, each: who is slower than that is not reached, and load balancers ask for seconds at most. */
const checkMsMax = 3_000;

export function register(door: Door): void {
  door.open({
    route: createRoute({
      method: "get",
      path: "/healthz",
      tags: ["service"],
      summary: "Is it well",
      description:
        "503 while the database or the audit log cannot be reached, or takes more than three seconds. Ask every few seconds, not more often.",
      responses: {
        200: { description: "All is well.", content: { "application/json": { schema: health } } },
        503: { description: "Something cannot be reached.", content: { "application/json": { schema: health } } },
      },
    }),
    handler: async ({ parts, request_id, now }) => {
      let [identities, bundles]: [Health["identities"], Health["bundles"]] = [null, null];
      const check = async (name: string, ask: () => Promise<unknown>): Promise<Health["database"]> => {
        try {
          await inTime(ask(), checkMsMax, `the ${name}`);
          return "ok";
        } catch (error) {
          parts.log("error", `${name} unreachable`, { request_id, ...errorFacts(error) });
          return "unreachable";
        }
      };
      const [database, audit, look] = await Promise.all([
        check("database", async () => {
          await pingDatabase(parts.database);
          const { shared, bundles: counts } = await domainsHealth(parts.authDatabase, now);
          [identities, bundles] = [[...shared], counts];
        }),
        check("audit", () => parts.audit.keys()),
        parts.platform.shown(),
      ]);
      const workers =
        look.workers?.map(({ spiffe_id, issued_at_ms: issued, until_ms: until }) => ({
          spiffe_id,
          last_rotated_at: isoTime(issued),
          ends_at: isoTime(until),
          alarm: isNearItsEnd(issued, until, now),
        })) ?? null;
      const told = { database, audit, identities, bundles, workers, workers_seen_at: isoTime(look.at_ms) };
      return database === "ok" && audit === "ok"
        ? { status: 200, body: { status: "ok" as const, ...told } }
        : { status: 503, body: { status: "degraded" as const, ...told } };
    },
  });
}
