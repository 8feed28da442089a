// Rolling a package back: one release, taken from all installs that are on it, or all to a version, or one install; pinned
// where they go, what was taken back barred, its rollout aborted. Called by POST /api/market/rollbacks.
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
import { listRollouts } from "../../../shared/market/install-store.ts";
import {
  candidates,
  installsIn,
  planRollback,
  releaseToTakeBack,
  rollbackChange,
  type RollbackScope,
} from "../../../shared/market/rollback.ts";
import type { ActionFacts } from "../../../shared/policy/actions.ts";
import type { Call } from "../door.ts";
import { eventContext } from "../event-context.ts";
import { denied } from "../middleware/deny.ts";
import { packageBusy } from "./refusals.ts";
import { untilWritten } from "./until-written.ts";
import { usableOnce } from "./release-checks.ts";

type RollbackCall = Call<never, "rollback.start">;
type EarlierByInstall = ReadonlyMap<string, readonly EarlierRelease[]>;

/** So many of the newest rollouts are looked at for the last one whose release is still run. */
const rolloutsRead = 100;

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
  const result = await untilWritten(call.parts, () => attemptRollback(call, wanted), packageBusy);
  call.parts.nudgeDrain(call.caller.tenant_id);
  return result;
}

async function attemptRollback(
  call: RollbackCall,
  { package: name, to_version: version, install, reason }: z.output<typeof rollbackRequest>,
): Promise<RollbackResult | null> {
  const { parts, caller, now } = call;
  const toVersion = version ?? null;
  const { state, earlier, scope } = await readRollback(call, name, toVersion, install ?? null);
  const facts = rollbackFacts(state, toVersion);
  const decision = await call.decide(facts);
  if (!decision.allow) await denied(call, decision, { facts, package: name });
  if (install !== undefined && !state.installs.some((one) => one.name === install))
    throw new Problem("not_found", `There is no install of that name of ${name}.`);

  const usable = scope === null ? new Set<string>() : await usableReleases(call, state, earlier, scope);
  const plan =
    scope === null
      ? null
      : planRollback(state, earlier, {
          scope,
          rule: "rollback",
          reason,
          at: new Date(now).toISOString(),
          usable: ({ release_id: id }) => usable.has(id),
        });
  if (plan === null || !plan.changes) {
    throw new Problem("nothing_to_roll_back", "No install can go back.", { unmoved: plan?.result.unmoved ?? [] });
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

/** What a rollback is planned on; `scope` null: nothing is installed. */
export async function readRollback(
  { parts, caller }: Pick<Call, "parts" | "caller">,
  name: string,
  toVersion: string | null,
  install: string | null,
): Promise<{ state: PackageState; earlier: EarlierByInstall; scope: RollbackScope | null }> {
  const [state, earlier, rollouts] = await Promise.all([
    readPackage(parts.database, caller.tenant_id, name),
    readEarlier(parts.database, caller.tenant_id, name),
    listRollouts(parts.database, caller.tenant_id, name, rolloutsRead, null),
  ]);
  if (install !== null) return { state, earlier, scope: { kind: "install", name: install, version: toVersion } };
  if (toVersion !== null) return { state, earlier, scope: { kind: "version", version: toVersion } };
  const release = releaseToTakeBack(state, rollouts);
  return { state, earlier, scope: release === null ? null : { kind: "release", release } };
}

/** Ids of the releases that may be gone back to; each is looked at once, whatever number of installs could use it. */
async function usableReleases(
  call: Pick<Call, "parts" | "caller">,
  state: PackageState,
  earlier: EarlierByInstall,
  scope: RollbackScope,
): Promise<ReadonlySet<string>> {
  const isUsable = usableOnce(call);
  const usable = new Set<string>();
  for (const install of installsIn(state, scope)) {
    for (const { release_id: id } of candidates(state, install, earlier.get(install.id) ?? [], {
      scope,
      rule: "rollback",
    })) {
      if (!(await isUsable(id))) continue;
      usable.add(id);
      break;
    }
  }
  return usable;
}
