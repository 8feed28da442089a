// What installing a package would meet, channel by channel: for runs of what is not installed, which are told the way that
// needs the fewest changes. Called where a run is denied or explained, and never for one that has its install.

import type { InstallingWay, RunFacts } from "../../../shared/executions/start.ts";
import { readPointers } from "../../../shared/market/channel-store.ts";
import { readPackage } from "../../../shared/market/package-state-store.ts";
import * as releases from "../../../shared/market/release-store.ts";
import { decisionInput } from "../../../shared/policy/actions.ts";
import { explain } from "../../../shared/policy/explain.ts";
import type { Call } from "../door.ts";
import type { Parts } from "../parts.ts";
import { pointedRelease } from "./release-fact.ts";

/** How many changes would allow the caller the run. */
export const changesNeeded =
  ({ parts, caller }: Pick<Call, "parts" | "caller">) =>
  (facts: RunFacts): number =>
    explain(parts.policy, decisionInput("execution.start", caller, facts)).fixes.length;

/** Stable first; nothing for a channel that points to no release. */
export async function installingWays(
  { database }: Pick<Parts, "database">,
  tenantId: string,
  name: string,
  range: string | null,
): Promise<InstallingWay[]> {
  const [pointers, state] = await Promise.all([
    readPointers(database, tenantId, name),
    readPackage(database, tenantId, name),
  ]);
  const ids = pointers.map((pointer) => pointer.release_id);
  const known = await releases.readReleasesById(database, tenantId, ids);
  const ways: InstallingWay[] = [];
  for (const { channel, release_id: id } of pointers) {
    const release = known.get(id);
    if (release === undefined) continue;
    const published = () => releases.listPublished(database, tenantId, name);
    const { fact, in_range, units } = await pointedRelease(release, state, range, published);
    ways.push({ fact: { channel, release: fact, frozen: state.frozen }, in_range, units });
  }
  return ways;
}
