// Long lists of cases: all of them in `npm run test:deep`, each so-many-th in `npm test`, whose whole time is bounded.

/** Whether this is the full count. */
export const isDeep = process.env["MAESTRO_DEEP"] === "1";

export const sampled = <T>(cases: readonly T[], each: number): readonly T[] =>
  isDeep ? cases : cases.filter((_, index) => index % each === 0);
