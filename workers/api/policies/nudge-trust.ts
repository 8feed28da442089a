// Tells publishers that a trust bundle has changed. Made by compose.ts, called where a bundle is taken or rotated.

import type { Log } from "../../../shared/contract/ports.ts";
import type { PublisherPort } from "../../../shared/edge/service.ts";
import { tenantsTrusting } from "../../../shared/edge/store.ts";
import type { Database } from "../../../shared/tenancy/database.ts";
import { errorFacts } from "../middleware/problem.ts";

export interface NudgeTrustParts {
  readonly log: Log;
  /** As maestro_auth. */
  readonly database: Database;
  readonly publisher: (tenantId: string) => Pick<PublisherPort, "nudgeFetchers">;
}

/** The publishers of all tenants that have a workload in that trust domain mirror its bundle soon; what is lost the sweep does. */
export async function nudgeTrust({ log, database, publisher }: NudgeTrustParts, trustDomain: string): Promise<void> {
  const tenants = await tenantsTrusting(database, trustDomain).catch((error: unknown) => {
    log("warn", "publishers were not told of a trust bundle", { trust_domain: trustDomain, ...errorFacts(error) });
    return [];
  });
  for (const result of await Promise.allSettled(tenants.map((tenantId) => publisher(tenantId).nudgeFetchers())))
    if (result.status === "rejected")
      log("warn", "a publisher was not told of a trust bundle", {
        trust_domain: trustDomain,
        ...errorFacts(result.reason),
      });
}
