// Whether a channel points to where the API says: the marketplace's signed statement of the pointer, held against what
// came with it. Called by verify-moves.ts.

import type { PublishedKeys } from "../../shared/contract/http-audit.ts";
import type { ChannelPointer } from "../../shared/contract/http-market.ts";
import { believedReleaseKeys } from "../../shared/signing/published.ts";
import { checkChannelPointer } from "../../shared/signing/release.ts";
import { Failure } from "../failure.ts";

const compared = ["package", "channel", "version", "sequence", "moved_at", "artifact_sha256"] as const;

/** Throws Failure `verification_failed` with the first thing that does not hold. */
export async function verifyPointer(pointer: ChannelPointer, keys: PublishedKeys): Promise<void> {
  const checked = await checkChannelPointer(pointer.bundle, believedReleaseKeys(keys.keys));
  if (!checked.ok) throw refuse(checked.reason);
  const other = compared.find((member) => checked.pointer[member] !== pointer[member]);
  if (other !== undefined) throw refuse(`the marketplace signed another ${other} for ${pointer.channel}`);
}

const refuse = (why: string): Failure => new Failure("verification_failed", `The channel pointer is refused: ${why}`);
