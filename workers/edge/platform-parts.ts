// What both runtimes of the edge have alike: the clock, chance, and log lines. Called by cloudflare.ts and bunny.ts.

import type { Clock, Log, Random } from "../../shared/contract/ports.ts";

const clock: Clock = () => Date.now();
const random: Random = (byteCount) => crypto.getRandomValues(new Uint8Array(byteCount));
/** One JSON object a line. */
const log: Log = (level, message, fields = {}) => {
  console[level](JSON.stringify({ level, message, time: new Date(clock()).toISOString(), ...fields }));
};

export const platformParts = { clock, random, log } as const;
