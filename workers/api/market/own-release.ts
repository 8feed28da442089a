// What a publisher does with a release of its own after the upload: submit a draft, yank what is published, move a channel.
// Each is one read, one batch. Called by the market routes.
//
// What stands where after a crash, at each await: reads, nothing; the signer, a signature that nothing names; the batch,
// all of it or none.

import type { z } from "@hono/zod-openapi";
import type { ChannelPointer, channelMove, PublishedRelease, Release } from "../../../shared/contract/http-market.ts";
import { Problem } from "../../../shared/contract/problems.ts";
import { moveChannel, movesUp, readStanding, type Standing } from "../../../shared/market/channel-store.ts";
import * as store from "../../../shared/market/release-store.ts";
import { newEvent } from "../../../shared/outbox/outbox.ts";
import type { Call } from "../door.ts";
import { eventContext } from "../event-context.ts";
import { channelBusy, noRelease, wrongState } from "./refusals.ts";
import { signPointer } from "./sign-pointer.ts";
import { untilWritten } from "./until-written.ts";

async function own(call: Pick<Call, "parts" | "caller">, id: string): Promise<Release> {
  const known = await store.readReleaseById(call.parts.database, call.caller.tenant_id, id);
  if (known === null || known.publisher_tenant_id !== call.caller.tenant_id) throw noRelease();
  return known.release;
}

export async function submitRelease(call: Call<never, "release.publish">, id: string): Promise<Release> {
  const { parts, caller, now } = call;
  const draft = await own(call, id);
  if (draft.state !== "draft") throw wrongState(draft.state);
  const release: Release = { ...draft, state: "in_review", submitted_at: new Date(now).toISOString() };
  const event = newEvent(eventContext(call), "mc.release.submitted", { ...named(release), outcome: "in_review" });
  const change = { release, event, claim: call.claim!, now };
  if (!(await store.submitRelease(parts.database, caller.tenant_id, parts.shards, change))) {
    throw wrongState((await own(call, id)).state);
  }
  parts.nudgeDrain(caller.tenant_id);
  return release;
}

export async function yankRelease(call: Call<never, "release.yank">, id: string, reason: string): Promise<Release> {
  const { parts, caller, now } = call;
  const published = await own(call, id);
  if (published.state !== "published") throw wrongState(published.state);
  const release: Release = {
    ...published,
    state: "yanked",
    yanked_at: new Date(now).toISOString(),
    yank_reason: reason,
  };
  const { channel: _, ...told } = named(release);
  const event = newEvent(eventContext(call), "mc.release.yanked", told);
  const change = { release, event, claim: call.claim!, now, yanked_by: caller.principal_id };
  if (!(await store.yankRelease(parts.database, caller.tenant_id, parts.shards, change))) {
    throw wrongState((await own(call, id)).state);
  }
  parts.nudgeDrain(caller.tenant_id);
  return release;
}

const named = (release: Release) => ({
  package: release.package,
  version: release.version,
  channel: release.channel,
  release_sha256: release.artifact_sha256,
});

/** Promotes, or with `down` demotes: a channel is pointed to a published release, and nothing is uploaded again. */
export async function moveOwnChannel(
  call: Call<never, "channel.move">,
  wanted: z.output<typeof channelMove>,
): Promise<ChannelPointer> {
  const { parts, caller, now } = call;
  const { package: name, channel, version, down } = wanted;
  if ((await store.packageOwner(parts.database, caller.tenant_id, name)) !== "self") throw noRelease();
  const attempt = async (): Promise<ChannelPointer | null> => {
    const [release, standing] = await Promise.all([
      store.readRelease(parts.database, caller.tenant_id, name, { version }),
      readStanding(parts.database, caller.tenant_id, name, channel),
    ]);
    if (release === null) throw noRelease();
    if (release.state !== "published" || release.marketplace_bundle === null) throw wrongState(release.state);
    const published: PublishedRelease = { ...release, marketplace_bundle: release.marketplace_bundle };
    const up = movesUp(version, standing);
    if (!up && !down && standing?.version !== version) throw backwards(standing, version);
    const pointer = await signPointer(parts, published, channel, standing, now);
    const event = newEvent(eventContext(call), "mc.channel.moved", {
      ...named(release),
      channel,
      previous_version: standing?.version ?? null,
      sequence: pointer.sequence,
      outcome: up ? "promoted" : "demoted",
    });
    const moved = await moveChannel(parts.database, caller.tenant_id, parts.shards, {
      pointer,
      from_sequence: standing?.sequence ?? null,
      moved_by: caller.principal_id,
      event,
      claim: call.claim!,
      now,
    });
    if (!moved) return null;
    parts.nudgeDrain(caller.tenant_id);
    return pointer;
  };
  return await untilWritten(parts, attempt, channelBusy);
}

const backwards = (standing: Standing | null, version: string): Problem =>
  new Problem("channel_backwards", `The channel points to ${standing?.version}, which is newer than ${version}.`, {
    version_now: standing?.version,
  });
