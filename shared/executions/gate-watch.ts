// The health gate at work: each running rollout of a tenant is asked, its report kept, and one that fails is aborted. Called
// by the alarm of durable-objects/rollout-gates.ts.
//
// What stands where after a crash, at each await: reads, nothing; the report, an older one stands there; the abort, all of
// its installs are back, pinned, the digest barred and the rollout ended, with their events, or nothing is. The next alarm
// asks again. Neither bucket nor signer is needed: an install goes back to a release that was verified when it was
// installed, and its artifact is verified once more before a byte of it runs.

import type { GateReport } from "../contract/http-installs.ts";
import type { Log, Random } from "../contract/ports.ts";
import { gateSentence, gateVerdict, type GateVerdict } from "../market/gate.ts";
import {
  keepGateReport,
  packagesRollingOut,
  readEarlier,
  readPackage,
  writePackage,
} from "../market/package-state-store.ts";
import { planRollback, rollbackChange } from "../market/rollback.ts";
import type { Database } from "../tenancy/database.ts";
import { gateCounts } from "./rollout-store.ts";

export interface GateParts {
  readonly database: Database;
  readonly shards: number;
  readonly random: Random;
  readonly log: Log;
  nudgeDrain(tenantId: string): void;
}

/** Answers how many rollouts are still running. Throws where Postgres does. */
export async function watchRollouts(parts: GateParts, tenantId: string, now: number): Promise<number> {
  let running = 0;
  for (const name of await packagesRollingOut(parts.database, tenantId)) {
    if (!(await watchPackage(parts, tenantId, name, now))) running += 1;
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
  const { release_id: badRelease } = state.rollout;
  const plan = planRollback(
    { ...state, rollout: { ...state.rollout, gate: report } },
    await readEarlier(database, tenantId, name),
    {
      installs: state.installs.filter((install) => install.release_id === badRelease),
      to_version: null,
      rule: "health_gate",
      reason: report.words.slice(0, 500),
      at: new Date(now).toISOString(),
      usable: () => true,
      log10_e_milli: verdict.log10_e_milli,
    },
  );
  if (plan.moves.length === 0) {
    // Every install of the cohort was moved or pinned elsewhere meanwhile, or never had another release.
    parts.log("warn", "the gate would abort a rollout that no install can go back from", { rollout: state.rollout.id });
    await keepGateReport(database, tenantId, state.rollout.id, report);
    return false;
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
