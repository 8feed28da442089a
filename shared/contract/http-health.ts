// Wire shape of GET /healthz.

import { z } from "@hono/zod-openapi";
import { trustDomainName } from "./http-identity.ts";
import { timestamp } from "./names.ts";

const state = z.enum(["ok", "unreachable"]);
const identity = z.strictObject({
  trust_domain: trustDomainName,
  confirmed_at: timestamp.nullable().describe("when a good bundle came last; null: never"),
  last_rotated_at: timestamp.nullable().describe("when its bundle became another one; null: not since this is noted"),
  first_authority_ends_at: timestamp.nullable(),
  alarm: z.boolean().describe("a third of that authority's life is left, or less"),
});
export const health = z
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
export type Health = z.infer<typeof health>;
