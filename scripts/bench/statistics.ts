// Percentiles of one run, and medians with their spread over runs. Pure; called by the benchmarks.

export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

const ascending = (values: readonly number[]): number[] => values.toSorted((left, right) => left - right);

/** The nearest rank: the smallest value that `share` (0 to 1) of all values do not exceed. Throws where there is none. */
export function percentile(values: readonly number[], share: number): number {
  if (values.length === 0) throw new RangeError("no values, no percentile");
  const rank = Math.max(1, Math.ceil(share * values.length));
  return ascending(values)[rank - 1]!;
}

/** The middle one, or the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  if (values.length === 0) throw new RangeError("no values, no median");
  const sorted = ascending(values);
  const half = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2;
}

/** Over runs of one benchmark, figure by figure; all runs have the same figures. */
export function spreads<K extends string>(runs: readonly Readonly<Record<K, number>>[]): Record<K, Spread> {
  const [first] = runs;
  if (first === undefined) throw new RangeError("no runs, no spread");
  const names = Object.keys(first) as K[];
  return Object.fromEntries(
    names.map((name) => {
      const values = runs.map((run) => run[name]);
      return [name, { median: median(values), min: Math.min(...values), max: Math.max(...values) }];
    }),
  ) as Record<K, Spread>;
}

/** To so many significant digits: figures that a clock of 1 ms and a noisy machine can carry. */
export const rounded = (value: number, digits = 4): number => Number(value.toPrecision(digits));
