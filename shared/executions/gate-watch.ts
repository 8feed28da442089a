// The health gate at work: each running rollout of a tenant is asked, its report kept, and one that fails is aborted. Called
// by the alarm of durable-objects/rollout-gates.ts.
//
// What stands where after a crash, at each await: reads, nothing; the report, an older one stands there; the abort, all of
// its installs are back, pinned, the digest barred and the rollout ended, with their events, or nothing is. The next alarm
// asks again. Neither bucket nor signer is needed: releases that are known to be gone are passed over, and where the bucket
// does not answer, an install goes back to one that was verified when it was installed, and whose artifact is verified once
// more before a byte of it runs. The digest is barred and the rollout ended also where no install can go back.

import type { GateReport } from "../contract/http-installs.ts";
import type { Log, Random } from "../contract/ports.ts";
import { gateSentence, gateVerdict, type GateVerdict } from "../market/gate.ts";
import {
  keepGateReport,
  packagesRollingOut,
  readEarlier,
  readPackage,
  writePackage,
  type EarlierRelease,
} from "../market/package-state-store.ts";
import type { PackageState } from "../market/package-state.ts";
import { planRollback, rollbackChange } from "../market/rollback.ts";
import { errorName } from "../outbox/drain.ts";
import type { Database } from "../tenancy/database.ts";
import { gateCounts } from "./rollout-store.ts";

export interface GateParts {
  readonly database: Database;
  readonly shards: number;
  readonly random: Random;
  readonly log: Log;
  nudgeDrain(tenantId: string): void;
  /** Of these releases, those known not to verify or to have no artifact. One that cannot be looked at now is not among them. */
  unusable(tenantId: string, releaseIds: readonly string[]): Promise<ReadonlySet<string>>;
}

/** Every release that an install of the cohort could go back to. */
const releasesOf = (state: PackageState, earlier: ReadonlyMap<string, readonly EarlierRelease[]>): string[] => {
  const ids = state.installs
    .filter((install) => install.release_id === state.rollout?.release_id)
    .flatMap((install) => (earlier.get(install.id) ?? []).map((release) => release.release_id));
  return [...new Set([...ids, ...[...state.good.values()].map((release) => release.release_id)])];
};

/**
 * Answers how many rollouts are still running; one that could not be judged is, and holds up no other. Throws where Postgres
 * does not say which there are.
 */
export async function watchRollouts(parts: GateParts, tenantId: string, now: number): Promise<number> {
  let running = 0;
  for (const name of await packagesRollingOut(parts.database, tenantId)) {
    try {
      if (!(await watchPackage(parts, tenantId, name, now))) running += 1;
    } catch (error) {
      running += 1;
      parts.log("error", "a rollout could not be judged, the next alarm asks again", {
        tenant_id: tenantId,
        package: name,
        error: errorName(error),
      });
    }
  }
  return running;
}

/** True where the package has no rollout that runs any more. */
async function watchPackage(parts: GateParts, tenantId: string, name: string, now: number): Promise<boolean> {
  const { database } = parts;
  const state = await readPackage(database, tenantId, name);
  if (state.rollout === null) return true;
  const verdict = gateVerdict(await gateCounts(database, tenantId, state.rollout));
  const report = reportOf(verdict, now);
  if (verdict.state !== "abort") {
    await keepGateReport(database, tenantId, state.rollout.id, report);
    return false;
  }
  const earlier = await readEarlier(database, tenantId, name);
  const unusable = await parts.unusable(tenantId, releasesOf(state, earlier));
  const plan = planRollback({ ...state, rollout: { ...state.rollout, gate: report } }, earlier, {
    scope: { kind: "release", release: state.rollout },
    rule: "health_gate",
    reason: report.words.slice(0, 500),
    at: new Date(now).toISOString(),
    usable: ({ release_id: id }) => !unusable.has(id),
    log10_e_milli: verdict.log10_e_milli,
  });
  if (plan.result.unmoved.length > 0) {
    parts.log("warn", "the gate aborts, and installs have no release to go back to", {
      rollout: state.rollout.id,
      installs: plan.result.unmoved.length,
    });
  }
  const context = { tenant_id: tenantId, principal: null, source: "api", now, random: parts.random } as const;
  const written = await writePackage(database, tenantId, parts.shards, {
    change: rollbackChange(context, state, plan, "health_gate", null),
    entitlement_version: null,
    principal_id: null,
    claim: null,
    answer: { status: 200, response: null },
    now,
  });
  if (written) parts.nudgeDrain(tenantId);
  return written;
}

function reportOf(verdict: GateVerdict, now: number): GateReport {
  const { counts } = verdict;
  return {
    state: verdict.state,
    rule: verdict.state === "hold" ? verdict.rule : verdict.state === "abort" ? "failures" : "ok",
    words: gateSentence(verdict),
    new_runs: counts.new_runs,
    new_failures: counts.new_failures,
    old_runs: counts.old_runs,
    old_failures: counts.old_failures,
    log10_e_milli: verdict.log10_e_milli,
    evaluated_at: new Date(now).toISOString(),
  };
}
