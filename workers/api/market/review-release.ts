// A reviewer's decision. An approval countersigns the release, signs the channel's pointer where the release is newer than
// what it points to (docs/adr/ADR-1208-channels-move-up.md), and commits both with the events of two tenants. Called by
// POST /api/market/reviews/{id}/approve and …/reject.
//
// What stands where after a crash, at each await of an approval:
//   reads, the bucket          nothing
//   countersign, pointer       signatures that nothing names: a retry makes new ones
//   the batch                  release, pointer, history, both tenants' events and the answer, or none of them
// Two approvers at once: one transaction finds the release in review, the other finds it decided. A channel that was moved
// between the signature and the batch takes the whole batch back, and it is signed anew.

import type { PublishedRelease, Release } from "../../../shared/contract/http-market.ts";
import { movesUp, readStanding, type PointerMove } from "../../../shared/market/channel-store.ts";
import type { KnownRelease } from "../../../shared/market/release-store.ts";
import { decideReview, readReviewed, type ReviewDecision } from "../../../shared/market/review-store.ts";
import { newEvent, type EventContext } from "../../../shared/outbox/outbox.ts";
import { checkRelease } from "../../../shared/signing/release.ts";
import type { Call } from "../door.ts";
import { eventContext } from "../event-context.ts";
import { denied } from "../middleware/deny.ts";
import { artifactKey } from "./artifacts.ts";
import { channelBusy, invalidRelease, noRelease, wrongState } from "./refusals.ts";
import { isOwn } from "./own-work.ts";
import { signPointer } from "./sign-pointer.ts";
import { untilWritten } from "./until-written.ts";

type ReviewCall = Call<never, "release.review">;

/** Others may move the channel meanwhile: then it is signed anew. */
export async function approveRelease(call: ReviewCall, id: string, reason: string): Promise<Release> {
  return await untilWritten(call.parts, () => attemptApproval(call, id, reason), channelBusy);
}

async function attemptApproval(call: ReviewCall, id: string, reason: string): Promise<Release | null> {
  const known = await reviewable(call, id);
  const approved = await countersigned(call, known, reason);
  const move = await firstMove(call, known, approved);
  const done = await decideReview(call.parts.database, call.caller.tenant_id, call.parts.shards, {
    ...decisionOf(call, known, approved),
    told_events: [newEvent(publisherContext(call, known), "mc.release.published", toldOf(approved))],
    move,
  });
  return done === "moved" ? null : await settled(call, known, approved, done);
}

export async function rejectRelease(call: ReviewCall, id: string, reason: string): Promise<Release> {
  const known = await reviewable(call, id);
  const rejected: Release = { ...known.release, state: "rejected", ...reviewedNow(call, reason) };
  const { units: _, ...named } = toldOf(rejected);
  const done = await decideReview(call.parts.database, call.caller.tenant_id, call.parts.shards, {
    ...decisionOf(call, known, rejected),
    told_events:
      known.publisher_tenant_id === call.caller.tenant_id
        ? []
        : [newEvent(publisherContext(call, known), "mc.release.reviewed", { ...named, outcome: "rejected" })],
    move: null,
  });
  return settled(call, known, rejected, done);
}

/** In review, in this reviewer's queue, and not the reviewer's own. */
async function reviewable(call: ReviewCall, id: string): Promise<KnownRelease> {
  const { parts, caller } = call;
  const known = await readReviewed(parts.database, caller.tenant_id, id);
  if (known === null) throw noRelease();
  const { release } = known;
  if (release.state !== "in_review") throw wrongState(release.state);
  const facts = {
    package: release.package,
    version: release.version,
    own: await isOwn(call, known.uploaded_by),
  };
  const decision = await call.decide(facts);
  if (!decision.allow) await denied(call, decision, { facts, package: release.package });
  return known;
}

async function countersigned(call: ReviewCall, { release }: KnownRelease, reason: string): Promise<PublishedRelease> {
  const { parts } = call;
  const signed = await parts.signer.countersign(release.publisher_bundle, release.publisher_key);
  if (!signed.ok) throw invalidRelease(signed.reason);
  const checked = await checkRelease(
    { publisher: release.publisher_bundle, marketplace: signed.bundle, publisherSpki: release.publisher_key },
    await parts.releaseKeys(),
  );
  // The signer has a key that nobody would believe: neither pinned in RELEASE_KEYS, nor endorsed by one that was.
  if (!checked.ok)
    throw new Error(`the countersignature does not verify with the keys that are believed: ${checked.reason}`);
  if (checked.countersigned_at === null)
    throw new Error("the countersignature does not say when it was made: the signer is of an earlier version");
  if (
    checked.release.artifact_sha256 !== release.artifact_sha256 ||
    (await parts.artifacts.head(artifactKey(release.artifact_sha256))) === null
  ) {
    throw invalidRelease("the artifact that was signed is not in the marketplace");
  }
  return {
    ...release,
    state: "published",
    marketplace_bundle: signed.bundle,
    published_at: new Date(call.now).toISOString(),
    ...reviewedNow(call, reason),
  };
}

/** The move of the manifest's channel to the release, where that is upwards. */
async function firstMove(
  call: ReviewCall,
  known: KnownRelease,
  release: PublishedRelease,
): Promise<ReviewDecision["move"]> {
  const { parts, caller, now } = call;
  const standing = await readStanding(parts.database, caller.tenant_id, release.package, release.channel);
  if (!movesUp(release.version, standing)) return null;
  const move: PointerMove = {
    pointer: await signPointer(parts, release, release.channel, standing, now),
    from_sequence: standing?.sequence ?? null,
    moved_by: caller.principal_id,
  };
  const event = newEvent(publisherContext(call, known), "mc.channel.moved", {
    package: release.package,
    version: release.version,
    channel: release.channel,
    release_sha256: release.artifact_sha256,
    previous_version: standing?.version ?? null,
    sequence: move.pointer.sequence,
    outcome: "published",
  });
  return { ...move, event };
}

const reviewedNow = (call: ReviewCall, reason: string) => ({
  reviewed_at: new Date(call.now).toISOString(),
  review_reason: reason,
});

function decisionOf(
  call: ReviewCall,
  known: KnownRelease,
  decided: Release,
): Omit<ReviewDecision, "told_events" | "move"> {
  const { units: _, ...named } = toldOf(decided);
  return {
    release: decided,
    publisher_tenant_id: known.publisher_tenant_id,
    reviewed_by: call.caller.principal_id,
    reviewed_event: newEvent(eventContext(call), "mc.release.reviewed", {
      ...named,
      outcome: decided.state === "published" ? "approved" : "rejected",
    }),
    claim: call.claim!,
    now: call.now,
  };
}

const toldOf = (release: Release) => ({
  package: release.package,
  version: release.version,
  channel: release.channel,
  release_sha256: release.artifact_sha256,
  units: release.units,
});

/** For the publisher's log: made by the reviewer, whose id says nothing to it. */
const publisherContext = (call: ReviewCall, known: KnownRelease): EventContext => ({
  ...eventContext(call),
  tenant_id: known.publisher_tenant_id,
  // The decision was the reviewing tenant's, and is in its log.
  decision: null,
});

async function settled(
  call: ReviewCall,
  known: KnownRelease,
  decided: Release,
  done: "decided" | "not_in_review" | "moved",
): Promise<Release> {
  const { parts, caller } = call;
  if (done !== "decided") {
    const now = await readReviewed(parts.database, caller.tenant_id, decided.id);
    throw wrongState(now?.release.state ?? "published");
  }
  parts.nudgeDrain(caller.tenant_id);
  parts.nudgeDrain(known.publisher_tenant_id);
  return decided;
}
