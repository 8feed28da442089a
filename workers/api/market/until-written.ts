// Attempts at a change that counts only if what it was decided on still stands: others change the same package or channel meanwhile,
// and each time one of them wins. Who lost waits before deciding anew, by chance and longer each time, so that those who
// came at the same moment do not meet again at the next one. Called by whatever changes a package or moves a channel.

import type { Problem } from "../../../shared/contract/problems.ts";
import type { Random } from "../../../shared/contract/ports.ts";

/** Attempts of one call. */
const attemptsMax = 14;
/** A pause is anything up to this, doubled with each attempt, and at most so long. All of a call's together are 10 s at most. */
const firstPauseMsMax = 20;
const pauseMsMax = 1_200;

export interface WaitingParts {
  readonly random: Random;
  readonly pause: (ms: number) => Promise<void>;
}

/** What `attempt` wrote; null from it: what it was decided on had changed, and nothing was written. Throws `busy` where all were null. */
export async function untilWritten<T extends object>(
  { random, pause }: WaitingParts,
  attempt: () => Promise<T | null>,
  busy: () => Problem,
): Promise<T> {
  for (let attempts = 1; ; attempts += 1) {
    const written = await attempt();
    if (written !== null) return written;
    if (attempts >= attemptsMax) throw busy();
    await pause(Math.floor(share(random) * Math.min(pauseMsMax, firstPauseMsMax * 2 ** (attempts - 1))));
  }
}

/** From 0 to below 1. */
const share = (random: Random): number => new DataView(random(4).buffer).getUint32(0) / 2 ** 32;
