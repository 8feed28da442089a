// Upgrading a package's installs to where a channel points, all of them or a cohort: decision, signatures, a plan, one
// transaction for all installs together. Called by POST /api/market/upgrades.
//
// What stands where after a crash, at each await: reads, the bucket, the signatures, nothing; the batch, every install that
// moves, its history, the rollout, the events and the answer, or none of them. A retry with the same key recalls the answer
// or starts over.

import type { z } from "@hono/zod-openapi";
import type { upgradeRequest, UpgradeResult } from "../../../shared/contract/http-installs.ts";
import { newId } from "../../../shared/contract/ids.ts";
import { Problem } from "../../../shared/contract/problems.ts";
import { runsBefore } from "../../../shared/executions/rollout-store.ts";
import { installTold } from "../../../shared/market/install-told.ts";
import { rememberUnchanged, writePackage } from "../../../shared/market/package-state-store.ts";
import { placingOf } from "../../../shared/market/placement.ts";
import { isAllNewer, planUpgrade, type UpgradeAsked } from "../../../shared/market/upgrade.ts";
import { newEvent } from "../../../shared/outbox/outbox.ts";
import type { Call } from "../door.ts";
import { eventContext } from "../event-context.ts";
import { denied } from "../middleware/deny.ts";
import { requirePointed, requireUsable } from "./install-release.ts";
import { moveFacts, refOfRelease, upgradeFacts } from "./move-facts.ts";
import { packageBusy } from "./refusals.ts";
import { usableGood } from "./release-checks.ts";
import { untilWritten } from "./until-written.ts";

type UpgradeCall = Call<never, "upgrade.start">;

export async function upgradePackage(
  call: UpgradeCall,
  wanted: z.output<typeof upgradeRequest>,
): Promise<UpgradeResult> {
  const result = await untilWritten(call.parts, () => attemptUpgrade(call, wanted), packageBusy);
  call.parts.nudgeDrain(call.caller.tenant_id);
  if (result.rollout.state === "running") call.parts.nudgeGate(call.caller.tenant_id);
  return result;
}

/** Null: what was decided on had changed by the time of the write, and nothing was written. */
async function attemptUpgrade(
  call: UpgradeCall,
  wanted: z.output<typeof upgradeRequest>,
): Promise<UpgradeResult | null> {
  const { parts, caller, now } = call;
  const { package: name, channel } = wanted;
  const found = await moveFacts(call, name, channel);
  const facts = upgradeFacts(found, wanted);
  const decision = await call.decide(facts);
  if (!decision.allow) await denied(call, decision, { facts, package: name });
  const pointed = await requirePointed(call, found);
  await requireUsable(parts, pointed);

  const { state } = found;
  // With a cohort of all, and nobody to bring back, nobody is placed on a last good release.
  const good =
    wanted.cohort_percent < 100 || state.rollout !== null ? await usableGood(call, state) : new Set<string>();
  const asked: UpgradeAsked = {
    channel,
    target: refOfRelease(found.release!),
    cohort_percent: wanted.cohort_percent,
    reason: wanted.reason,
    started_by: caller.principal_id,
    rollout_id: newId("rollout", now, parts.random(10)),
    at: new Date(now).toISOString(),
    placing: placingOf(facts, good),
    before: await runsBefore(parts.database, caller.tenant_id, state, now),
  };
  if (isAllNewer(state, asked)) {
    throw new Problem(
      "nothing_to_upgrade",
      `Every install of the cohort is on a newer release than ${asked.target.version}, where ${channel} points.`,
      { version: asked.target.version },
    );
  }
  const plan = planUpgrade(state, asked);
  if (!plan.changes) {
    const unchanged = {
      package: name,
      from_version: state.version,
      entitlement_version: found.entitlement_version,
      claim: call.claim,
      answer: { status: 201, response: plan.result },
      now,
    };
    return (await rememberUnchanged(parts.database, caller.tenant_id, unchanged)) ? plan.result : null;
  }

  const context = eventContext(call);
  const written = await writePackage(parts.database, caller.tenant_id, parts.shards, {
    change: {
      package: name,
      from_version: state.version,
      moves: plan.moves,
      rollouts: plan.rollouts,
      good: plan.good,
      events: [
        ...plan.told.map((told) => newEvent(context, "mc.rollout.changed", told)),
        ...plan.moves.map((move) => newEvent(context, "mc.install.changed", installTold(move))),
      ],
      metrics: plan.told.map(({ outcome }) => ({ labels: { channel, outcome }, by: 1 })),
    },
    entitlement_version: found.entitlement_version,
    principal_id: caller.principal_id,
    claim: call.claim,
    answer: { status: 201, response: plan.result },
    now,
  });
  return written ? plan.result : null;
}
