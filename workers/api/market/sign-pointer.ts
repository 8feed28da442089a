// A channel's pointer, signed by the signer and verified with the pinned keys before anything is written. Called when a
// release is approved and when a channel is moved.

import type { ChannelPointer, PublishedRelease } from "../../../shared/contract/http-market.ts";
import type { Channel } from "../../../shared/contract/names.ts";
import type { Standing } from "../../../shared/market/channel-store.ts";
import { checkChannelPointer } from "../../../shared/signing/release.ts";
import type { Parts } from "../parts.ts";
import { invalidRelease } from "./refusals.ts";

export async function signPointer(
  parts: Parts,
  release: PublishedRelease,
  channel: Channel,
  standing: Standing | null,
  now: number,
): Promise<ChannelPointer> {
  const sequence = (standing?.sequence ?? 0) + 1;
  const movedAt = new Date(now).toISOString();
  const signed = await parts.signer.pointer({
    publisher_bundle: release.publisher_bundle,
    publisher_spki: release.publisher_key,
    marketplace_bundle: release.marketplace_bundle,
    channel,
    sequence,
    moved_at: movedAt,
  });
  if (!signed.ok) throw invalidRelease(signed.reason);
  const checked = await checkChannelPointer(signed.bundle, await parts.releaseKeys());
  // The signer has a key that nobody would believe: neither pinned in RELEASE_KEYS, nor endorsed by one that was.
  if (!checked.ok)
    throw new Error(`the signer's pointer does not verify with the keys that are believed: ${checked.reason}`);
  return {
    package: release.package,
    channel,
    version: release.version,
    release_id: release.id,
    artifact_sha256: release.artifact_sha256,
    sequence,
    moved_at: movedAt,
    bundle: signed.bundle,
  };
}
