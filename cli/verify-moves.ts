// What an API says that it has installed or upgraded to, checked with keys that this user trusts: both signatures of each
// release, and the channel's signed pointer. Called after `maestro market install` and `market upgrade`.

import type { PublishedKeys } from "../shared/contract/http-audit.ts";
import type { ChannelPointer, Release } from "../shared/contract/http-market.ts";
import type { Channel } from "../shared/contract/names.ts";
import type { Api } from "./api.ts";
import { Failure } from "./failure.ts";
import { verifyPointer } from "./package/verify-pointer.ts";
import { verifySignatures } from "./package/verify-release.ts";
import type { Session } from "./session.ts";

/** A release as the answer named it; what it did not say is not compared. */
export interface ToldRelease {
  readonly version: string;
  readonly release_id?: string;
  readonly artifact_sha256?: string;
}

interface ToldMove {
  readonly package: string;
  readonly channel: Channel;
  readonly releases: readonly ToldRelease[];
}

export interface Verified {
  readonly releases: readonly {
    readonly version: string;
    readonly artifact_sha256: string;
    readonly publisher_kid: string;
  }[];
  readonly pointer: Pick<ChannelPointer, "channel" | "version" | "sequence" | "moved_at">;
}

/** Throws Failure `verification_failed` with the first thing that does not hold. */
export async function verifyMove(api: Api, keys: PublishedKeys, told: ToldMove): Promise<Verified> {
  try {
    const pointers = await api.channels(told.package);
    const pointer = pointers.find((one) => one.channel === told.channel);
    if (pointer === undefined) throw refuse(`no signed pointer of ${told.channel} was given`);
    if (pointer.package !== told.package) throw refuse(`the pointer is of ${pointer.package}`);
    await verifyPointer(pointer, keys);
    const releases = [];
    for (const one of told.releases) releases.push(await verifyOne(api, keys, told.package, one, pointer));
    const { channel, version, sequence, moved_at } = pointer;
    return { releases, pointer: { channel, version, sequence, moved_at } };
  } catch (error) {
    if (!(error instanceof Failure) || error.exit !== "verification_failed") throw error;
    throw new Failure("verification_failed", error.message, {
      advice:
        "The API says that it moved there nevertheless; `maestro run` will not run it. Tell whoever answers for the API.",
      command: `maestro market status ${told.package}`,
    });
  }
}

async function verifyOne(
  api: Api,
  keys: PublishedKeys,
  name: string,
  told: ToldRelease,
  pointer: ChannelPointer,
): Promise<Verified["releases"][number]> {
  const release: Release = await api.release(name, { version: told.version });
  const { manifest, artifact_sha256, publisher_kid } = await verifySignatures(release, keys);
  if (manifest.name !== name || manifest.version !== told.version) {
    throw refuse(`${told.version} is signed as ${manifest.name} ${manifest.version}`);
  }
  // The pointer may have moved since, or a cohort has another release: then it says nothing of this one.
  const said = [told.artifact_sha256, pointer.version === told.version ? pointer.artifact_sha256 : undefined];
  if (said.some((digest) => digest !== undefined && digest !== artifact_sha256)) {
    throw refuse(`the signatures of ${told.version} are over another artifact`);
  }
  if (told.release_id !== undefined && told.release_id !== release.id) {
    throw refuse(`${told.version} is another release than the one that was named`);
  }
  return { version: told.version, artifact_sha256, publisher_kid };
}

const refuse = (why: string): Failure => new Failure("verification_failed", `What was installed is refused: ${why}`);

/** The line of a record that tells what was verified. */
export const verifiedText = ({ releases, pointer }: Verified): string =>
  `${releases.map(({ version }) => version).join(", ")}: both signatures; ${pointer.channel} → ${pointer.version}: signed, move ${pointer.sequence}`;

/** Told where a channel points elsewhere than to what was installed from it: right in a cohort, else worth a look. */
export function notePointer(session: Session, { pointer }: Verified, installed: string): void {
  if (pointer.version === installed) return;
  session.out.note(
    `note: ${pointer.channel} points to ${pointer.version}: this install is outside a rollout's cohort, or the channel has moved since`,
  );
}
