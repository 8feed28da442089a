// Wire shape of GET /healthz.

import { z } from "@hono/zod-openapi";
import { spiffeIdText, trustDomainName } from "./http-identity.ts";
import { timestamp } from "./names.ts";

/** API, audit worker, signer, and the authority in the signer's script. */
const workersMax = 4;
const state = z.enum(["ok", "unreachable"]);
const identity = z.strictObject({
  trust_domain: trustDomainName,
  confirmed_at: timestamp.nullable().describe("when a good bundle came last; null: never"),
  overdue: z.boolean().describe("its bundle comes from an endpoint, and no good one came for long"),
  last_rotated_at: timestamp.nullable().describe("when its bundle became another one; null: not since this is noted"),
  first_authority_ends_at: timestamp.nullable(),
  alarm: z.boolean().describe("a third of that authority's life is left, or less"),
});
const worker = z.strictObject({
  spiffe_id: spiffeIdText,
  last_rotated_at: timestamp.describe("when the SVID that it presents was issued"),
  ends_at: timestamp,
  alarm: z.boolean().describe("a third of that SVID's life is left, or less: it was to be renewed before"),
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
    bundles: z
      .strictObject({
        fetched: z.int().min(0).describe("trust domains whose bundle comes from an endpoint"),
        overdue: z
          .int()
          .min(0)
          .describe("those of which no good bundle came for long: an alarm; the tenant is told which"),
      })
      .nullable()
      .describe("of all tenants, counts alone; they do not make the API unwell. null: they cannot be read"),
    workers: z
      .array(worker)
      .max(workersMax)
      .nullable()
      .describe("the platform's own workers, as each one shows itself to the API. null: one of them cannot"),
    workers_seen_at: timestamp.describe("when they were looked at: ten seconds ago at most"),
  })
  .openapi("Health");
export type Health = z.infer<typeof health>;
