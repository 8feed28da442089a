// Evidence as the health gate counts it: e-processes, kept as natural logarithms. Used by sequential-test.ts,
// sample-ratio.ts and gate.ts.
//
// An e-process is at least 0 and, where the hypothesis is true, at most 1 in the mean whenever one stops to look. By
// Ville's inequality it then ever reaches 1/alpha with a chance of at most alpha, so that a look after every run costs
// nothing. A mean of e-processes is one again: that is how many alternatives are tried at once.

/** ln of the mean of the values whose ln are given: by the largest of them, so that nothing overflows. */
export function logMean(logs: readonly number[]): number {
  let largest = -Infinity;
  for (const log of logs) largest = Math.max(largest, log);
  let sum = 0;
  for (const log of logs) sum += Math.exp(log - largest);
  return largest + Math.log(sum / logs.length);
}

/**
 * Thousandths of log10, rounded down, so that evidence is a whole number on the wire. The gate decides on this number
 * and on no other: what is written down is what was decided on.
 */
export const log10Milli = (log: number): number => Math.floor((log / Math.LN10) * 1000) + 0;
