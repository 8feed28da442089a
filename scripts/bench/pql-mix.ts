// What the PQL benchmark asks, and of whom: the plan's mix of questions, tenants by Zipf, drawn by a seeded generator; and
// when the events of its tenants are. Pure; called by the files of the PQL benchmark.

/** The plan's mix, with the share of each question. */
export const questions = {
  deny_24h: { share: 0.7, query: 'FIND decisions WHERE outcome = "deny" BUCKET BY 5m TOP 10 BY package SINCE 24h' },
  all_24h: { share: 0.2, query: "FIND decisions BUCKET BY 5m TOP 10 BY package SINCE 24h" },
  deny_30d: { share: 0.1, query: 'FIND decisions WHERE outcome = "deny" BUCKET BY 1h TOP 10 BY package SINCE 30d' },
} as const;
export type QuestionName = keyof typeof questions;
export const questionNames = Object.keys(questions) as QuestionName[];

/** Of `count` ranks, each with its share of the whole; the first one is the largest. */
export function zipfShares(count: number, exponent: number): number[] {
  const weights = Array.from({ length: count }, (_, rank) => (rank + 1) ** -exponent);
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => weight / total);
}

/** The place in `shares` that `drawn`, from 0 to 1, falls on. */
export function placeOf(shares: readonly number[], drawn: number): number {
  let left = drawn;
  for (const [place, share] of shares.entries()) {
    left -= share;
    if (left < 0) return place;
  }
  return shares.length - 1;
}

export interface Asked {
  readonly question: QuestionName;
  /** The number of the tenant, from 0, the largest. */
  readonly tenant: number;
}

/** `next` gives numbers from 0 to 1. The same numbers, the same mix. */
export function drawMix(next: () => number, count: number, tenantShares: readonly number[]): Asked[] {
  const shares = questionNames.map((name) => questions[name].share);
  return Array.from({ length: count }, () => ({
    question: questionNames[placeOf(shares, next())]!,
    tenant: placeOf(tenantShares, next()),
  }));
}

const textBits = 24;

/**
 * The same question in a text of its own: `number` written in blanks behind it. An answer that is kept is kept by the text, so
 * that each of these is worked out anew. `number` is below 2^24.
 */
export const ownText = (query: string, number: number): string =>
  query + number.toString(2).padStart(textBits, "0").replaceAll("0", " ").replaceAll("1", "\t");

/** The same question with a condition more, which everything meets: nothing that is kept is of use to it. */
export function unkeptText(query: string, number: number): string {
  const [find, rest] = query.includes(" WHERE ")
    ? query.split(" WHERE ")
    : [query.slice(0, query.indexOf(" BUCKET")), ""];
  const own = `outcome != "none-${number}"`;
  return rest === "" ? `${find} WHERE ${own}${query.slice(find!.length)}` : `${find} WHERE ${own} AND ${rest}`;
}

export const dayMs = 86_400_000;
/** By how much a day's busiest and quietest minute are over and under the mean. */
export const dailySwing = 0.4;
export const swingMs = (dailySwing * dayMs) / (2 * Math.PI);

/** When a tenant's events are; times are milliseconds since 1970. */
export interface Pace {
  readonly origin: number;
  /** The mean from one event to the next. */
  readonly step_ms: number;
}

/** The instant `steps` after the origin, in a day that is busy at noon UTC and quiet at midnight; it never goes back. */
export function timeAt({ origin, step_ms: step }: Pace, steps: number): number {
  const even = origin + steps * step;
  return even + swingMs * Math.sin((2 * Math.PI * even) / dayMs);
}

/** How many steps are over at `now`: the event with that number is not due yet. */
export function stepsUntil(pace: Pace, now: number): number {
  let [none, all] = [0, Math.max(0, Math.ceil((now + dayMs - pace.origin) / pace.step_ms))];
  while (none < all) {
    const middle = Math.floor((none + all) / 2);
    if (timeAt(pace, middle + 1) <= now) none = middle + 1;
    else all = middle;
  }
  return none;
}
