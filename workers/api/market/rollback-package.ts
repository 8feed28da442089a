// Rolling a package's installs back: to a version, or each to its last good one; pinned there, what they left barred, the
// running rollout aborted. Called by POST /api/market/rollbacks, and by the health gate for the abort of a rollout.
//
// Neither the release that is left nor the signer is asked for anything: releases are verified with pinned keys, and only
// those that are gone back to. No clock decides anything. What stands where after a crash, at each await: reads, the
// bucket, nothing; the batch, every install, pin, bar, rollout, event and the answer, or none of them. An upgrade that is
// under way either commits first, and is planned with, or finds the package changed and is decided anew.

import type { z } from "@hono/zod-openapi";
import type { rollbackRequest, RollbackResult } from "../../../shared/contract/http-installs.ts";
import { Problem } from "../../../shared/contract/problems.ts";
import type { PackageState } from "../../../shared/market/package-state.ts";
import {
  readEarlier,
  readPackage,
  writePackage,
  type EarlierRelease,
} from "../../../shared/market/package-state-store.ts";
import * as releases from "../../../shared/market/release-store.ts";
import { candidates, planRollback, rollbackChange, type RollbackAsked } from "../../../shared/market/rollback.ts";
import type { ActionFacts } from "../../../shared/policy/actions.ts";
import type { Call } from "../door.ts";
import { eventContext } from "../event-context.ts";
import { denied } from "../middleware/deny.ts";
import type { Parts } from "../parts.ts";
import { attemptsMax } from "./install-release.ts";
import { packageBusy } from "./refusals.ts";
import { whyUnusable } from "./release-checks.ts";

type RollbackCall = Call<never, "rollback.start">;

export function rollbackFacts(state: PackageState, toVersion: string | null): ActionFacts["rollback.start"] {
  return {
    package: state.package,
    version: toVersion,
    installs: { count: state.installs.length },
    barred: state.bars.some((bar) => bar.version === toVersion),
  };
}

export async function rollBackPackage(
  call: RollbackCall,
  wanted: z.output<typeof rollbackRequest>,
): Promise<RollbackResult> {
  for (let attempt = 0; attempt < attemptsMax; attempt += 1) {
    const result = await attemptRollback(call, wanted);
    if (result === null) continue;
    call.parts.nudgeDrain(call.caller.tenant_id);
    return result;
  }
  throw packageBusy();
}

async function attemptRollback(
  call: RollbackCall,
  { package: name, to_version: version, install, reason }: z.output<typeof rollbackRequest>,
): Promise<RollbackResult | null> {
  const { parts, caller, now } = call;
  const toVersion = version ?? null;
  const [state, earlier] = await Promise.all([
    readPackage(parts.database, caller.tenant_id, name),
    readEarlier(parts.database, caller.tenant_id, name),
  ]);
  const facts = rollbackFacts(state, toVersion);
  const decision = call.decide(facts);
  if (!decision.allow) await denied(call, decision, { facts, package: name });
  const installs = state.installs.filter((one) => install === undefined || one.name === install);
  if (installs.length === 0) throw new Problem("not_found", `There is no install of that name of ${name}.`);

  const asked = { installs, to_version: toVersion, rule: "rollback", reason, at: new Date(now).toISOString() } as const;
  const usable = await usableReleases(parts, caller.tenant_id, state, earlier, asked);
  const plan = planRollback(state, earlier, { ...asked, usable: ({ release_id: id }) => usable.has(id) });
  if (plan.moves.length === 0) {
    throw new Problem("nothing_to_roll_back", "No install can go back.", { unmoved: plan.result.unmoved });
  }
  const written = await writePackage(parts.database, caller.tenant_id, parts.shards, {
    change: rollbackChange(eventContext(call), state, plan, "operator", toVersion),
    entitlement_version: null,
    principal_id: caller.principal_id,
    claim: call.claim,
    answer: { status: 201, response: plan.result },
    now,
  });
  return written ? plan.result : null;
}

/** Ids of the releases that may be gone back to; each is looked at once, whatever number of installs could use it. */
async function usableReleases(
  parts: Parts,
  tenantId: string,
  state: PackageState,
  earlier: ReadonlyMap<string, readonly EarlierRelease[]>,
  asked: Pick<RollbackAsked, "installs" | "to_version" | "rule">,
): Promise<ReadonlySet<string>> {
  const usable = new Set<string>();
  const unusable = new Set<string>();
  for (const install of asked.installs) {
    for (const { release_id: id } of candidates(state, install, earlier.get(install.id) ?? [], asked)) {
      if (usable.has(id)) break;
      if (unusable.has(id)) continue;
      const release = (await releases.readReleasesById(parts.database, tenantId, [id])).get(id);
      const why = release === undefined ? "it is not there" : await whyUnusable(parts, release);
      (why === null ? usable : unusable).add(id);
      if (why === null) break;
    }
  }
  return usable;
}
