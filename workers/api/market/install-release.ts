// Installing the release that a channel points to, as one of the tenant's named installs: decision, signatures, one
// transaction. Called by POST /api/market/installs.
//
// What stands where after a crash, at each await: reads, the bucket, the signatures, nothing; the batch, install, history,
// event and answer, or none of them. Nothing is written by halves, so nothing is cleaned up.

import type { z } from "@hono/zod-openapi";
import { installsMax, type Install, type installRequest } from "../../../shared/contract/http-installs.ts";
import type { Release } from "../../../shared/contract/http-market.ts";
import { hexBytes, sha256Hex, utf8 } from "../../../shared/contract/bytes.ts";
import { newId } from "../../../shared/contract/ids.ts";
import { Problem } from "../../../shared/contract/problems.ts";
import { installTold } from "../../../shared/market/install-told.ts";
import {
  bucketOf,
  moved,
  refOf,
  type Move,
  type PlacedInstall,
  type ReleaseRef,
} from "../../../shared/market/package-state.ts";
import { writePackage } from "../../../shared/market/package-state-store.ts";
import { isKeptFrom, placeOutside, placingOf } from "../../../shared/market/placement.ts";
import { newEvent } from "../../../shared/outbox/outbox.ts";
import { checkChannelPointer } from "../../../shared/signing/release.ts";
import type { Call } from "../door.ts";
import type { Parts } from "../parts.ts";
import { eventContext } from "../event-context.ts";
import { denied } from "../middleware/deny.ts";
import { installFacts, moveFacts, refOfRelease, type MoveFacts } from "./move-facts.ts";
import { invalidRelease, noRelease, packageBusy } from "./refusals.ts";
import { usableGood, whyUnusable } from "./release-checks.ts";
import { untilWritten } from "./until-written.ts";

type InstallCall = Call<never, "install.write">;

export async function installRelease(call: InstallCall, wanted: z.output<typeof installRequest>): Promise<Install> {
  const row = await untilWritten(call.parts, () => attemptInstall(call, wanted), packageBusy);
  call.parts.nudgeDrain(call.caller.tenant_id);
  return row;
}

/** Null: what was decided on had changed by the time of the write, and nothing was written. */
async function attemptInstall(
  call: InstallCall,
  { package: name, channel, name: installName }: z.output<typeof installRequest>,
): Promise<Install | null> {
  const { parts, caller, now } = call;
  const found = await moveFacts(call, name, channel);
  const facts = installFacts(found, installName);
  const decision = await call.decide(facts);
  if (!decision.allow) await denied(call, decision, { facts, package: name });
  const target = await requirePointed(call, found);

  const at = new Date(now).toISOString();
  const before = found.state.installs.find((install) => install.name === installName) ?? null;
  if (before === null && found.state.installs.length >= installsMax) {
    throw new Problem("too_many_installs", `There are ${installsMax} installs of ${name}.`, {
      installs_max: installsMax,
    });
  }
  const id = before?.id ?? newId("install", now, parts.random(10));
  const bucket = before?.bucket ?? bucketOf(hexBytes(await sha256Hex(utf8(id))));
  const to = await placeOf(call, found, target, before, bucket);
  const from = before === null ? null : refOf(before);
  const row: Install =
    before === null
      ? {
          id,
          package: name,
          name: installName,
          version: to.version,
          channel,
          artifact_sha256: to.artifact_sha256,
          units: to.units,
          release_id: to.release_id,
          pinned: false,
          bucket,
          changed_at: at,
        }
      : moved(before, to, channel, false, at);
  const rolloutId = to.release_id === found.state.rollout?.release_id ? found.state.rollout.id : null;
  const move: Move = { row, from, cause: "install", rollout_id: rolloutId };
  const written = await writePackage(parts.database, caller.tenant_id, parts.shards, {
    change: {
      package: name,
      from_version: found.state.version,
      moves: [move],
      // The first release of a channel that the tenant has is good until another has proved itself; one that is tried is not.
      good: found.state.good.has(channel) || rolloutId !== null ? [] : [{ channel, release_id: to.release_id }],
      events: [newEvent(eventContext(call), "mc.install.changed", installTold(move))],
    },
    entitlement_version: found.entitlement_version,
    principal_id: caller.principal_id,
    claim: call.claim,
    answer: { status: 201, response: row },
    now,
  });
  return written ? row : null;
}

/** The pointer's target, but for installs outside the cohort of a rollout of it: they get the last good one. */
async function placeOf(
  call: InstallCall,
  { state, facts }: MoveFacts,
  release: Release,
  before: PlacedInstall | null,
  bucket: number,
): Promise<ReleaseRef> {
  const target = refOfRelease(release);
  if (!isKeptFrom(state, target, bucket)) {
    await requireUsable(call.parts, release);
    return target;
  }
  const placing = placingOf(facts, await usableGood(call, state));
  const to = placeOutside(state, before, facts.channel, target, placing);
  if (to !== null) return to;
  throw new Problem(
    "no_good_release",
    `${target.version} is tried on ${state.rollout!.cohort_percent}% of the installs, this one is not among them, and no other release is known to be good.`,
    { version: target.version, cohort_percent: state.rollout!.cohort_percent },
  );
}

/** The release that the channel points to: the pointer is the marketplace's own, and names this one. */
export async function requirePointed({ parts }: Pick<Call, "parts">, found: MoveFacts): Promise<Release> {
  const { release, pointer } = found;
  if (release === null || pointer === null) throw noRelease();
  const checked = await checkChannelPointer(pointer.bundle, await parts.releaseKeys());
  if (!checked.ok) throw invalidRelease(checked.reason);
  const { pointer: signed } = checked;
  if (
    signed.package !== release.package ||
    signed.channel !== pointer.channel ||
    signed.version !== release.version ||
    signed.artifact_sha256 !== release.artifact_sha256 ||
    signed.sequence !== pointer.sequence
  ) {
    throw invalidRelease("the channel's pointer was signed for another release");
  }
  return release;
}

export async function requireUsable(parts: Parts, release: Release): Promise<void> {
  const why = await whyUnusable(parts, release);
  if (why !== null) throw invalidRelease(why);
}
