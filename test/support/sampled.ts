// Long lists of cases: all of them in `npm run test:deep`, each so-many-th in `npm test`, whose whole time is bounded. Where
// a list begins is drawn from MAESTRO_SAMPLE, the day where it is not set, so that over the days all of it is run.

import { createHash } from "node:crypto";

/** Whether this is the full count. */
export const isDeep = process.env["MAESTRO_DEEP"] === "1";

/** Any text. `npm test` prints it, and the same one draws the same cases again. */
export const sampleSeed = process.env["MAESTRO_SAMPLE"] ?? new Date().toISOString().slice(0, 10);

/** The `seed`'s choice of where to begin, below `of`: an integer of at least 1. */
export const firstOf = (seed: string, of: number): number =>
  createHash("sha256").update(seed).digest().readUInt32BE(0) % of;

/** 0 to `count` - 1, sampled as below: for places to crash at. */
export const sampledPlaces = (count: number, each: number): readonly number[] =>
  sampled(
    Array.from({ length: count }, (_, place) => place),
    each,
  );

/** Each `each`-th case (of 1 or more); at least one, where the list is not empty. */
export function sampled<T>(cases: readonly T[], each: number): readonly T[] {
  if (isDeep || cases.length === 0) return cases;
  const first = firstOf(sampleSeed, Math.min(each, cases.length));
  return cases.filter((_, index) => index % each === first);
}
