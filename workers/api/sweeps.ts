// The cron's work: what has to happen even where a nudge or an alarm was lost. Called by compose.ts. One that fails is told to the log,
// and holds up no other.

import type { Clock, Log } from "../../shared/contract/ports.ts";
import { repositoriesToSweep } from "../../shared/edge/store.ts";
import { dueDomains, type DueDomain } from "../../shared/identity/store.ts";
import { tenantsRollingOut } from "../../shared/market/package-state-store.ts";
import { forgetOldInputs } from "../../shared/policy/decision-store.ts";
import type { Database } from "../../shared/tenancy/database.ts";
import { forgetAllExpired } from "../../shared/tenancy/idempotency.ts";
import { errorFacts } from "./middleware/problem.ts";

/** An object of which the cron sees to it that it has its alarm. */
export interface Swept {
  sweep(): Promise<void>;
}

export interface SweepParts {
  readonly clock: Clock;
  readonly log: Log;
  /** As maestro_drain. */
  readonly database: Database;
  readonly drains: readonly Swept[];
  readonly gate: (tenantId: string) => Swept;
  readonly publisher: (tenantId: string) => Swept;
  /** Bundles whose endpoint is due are fetched; the last good one stays where that fails. */
  readonly refreshBundles: (due: readonly DueDomain[]) => Promise<void>;
}

/** Every drain has its alarm, as has the gate of each running rollout; publishers look after their stores; what is old is forgotten. */
export async function sweepAll(parts: SweepParts): Promise<void> {
  const { clock, log, database } = parts;
  const told = (what: string) => (error: unknown) => log("error", what, errorFacts(error));
  await forgetAllExpired(database).catch(told("expired answers not forgotten"));
  await forgetOldInputs(database).catch(told("old inputs of decisions not forgotten"));
  await sweepTenants(log, "gate", () => tenantsRollingOut(database), parts.gate);
  const refreshed = dueDomains(database, clock())
    .catch((error: unknown) => {
      told("bundles not refreshed")(error);
      return [];
    })
    .then(parts.refreshBundles);
  // Publishers sign again what is due, mirror fetchers' keys, and look whether the stores have what they had. A store that hangs may
  // take minutes: it holds up no drain.
  const published = sweepTenants(log, "publisher", () => repositoriesToSweep(database), parts.publisher);
  for (const result of await Promise.allSettled(parts.drains.map((drain) => drain.sweep()))) {
    if (result.status === "rejected") told("drain not swept")(result.reason);
  }
  await published;
  await refreshed;
}

async function sweepTenants(
  log: Log,
  name: string,
  list: () => Promise<readonly string[]>,
  of: (tenantId: string) => Swept,
): Promise<void> {
  const tenants = await list().catch((error: unknown) => {
    log("error", `${name}s not swept`, errorFacts(error));
    return [];
  });
  for (const result of await Promise.allSettled(tenants.map((tenantId) => of(tenantId).sweep()))) {
    if (result.status === "rejected") log("error", `${name} not swept`, errorFacts(result.reason));
  }
}
