// A question's counts in two parts: those of sealed hours, which never change and are kept for the next question, and those of
// the events since. Put together they are the answer, exactly. Pure; called by store.ts.

import type { Group } from "./answer.ts";
import type { Plan } from "./plan.ts";
import { hourMs, scanParts, slotMs } from "./scan-parts.ts";

type GroupsPlan = Exclude<Plan, { readonly template: "rows" }>;
type Name = string | null;

/** What the sealed hours of a question's range hold. */
export interface SealedCounts {
  /** Of everything, by bucket; one number where nothing is asked by bucket. */
  readonly every: readonly number[];
  /** Of names: the largest ones, and some others that were asked for. */
  readonly totals: ReadonlyMap<Name, number>;
  /** No name that is not in `totals` has more; null: each name is in it. */
  readonly unlisted_max: number | null;
  /** By bucket, of some of the names in `totals`. */
  readonly series: ReadonlyMap<Name, readonly number[]>;
}

/** Events that are not sealed, counted: the number of their bucket from 0, or 0, and their name. */
export type OpenCell = readonly [bucket: number, name: Name, count: number];

/**
 * Of rows of counts, when each begins, in seconds since 1970, and what each says: one number of a bucket, of a whole hour or of a
 * whole day, or the slots of an hour or a day, which may be partly outside of what is asked for.
 */
export type SlotCells = readonly [begins: readonly number[], counts: readonly (number | readonly number[])[]];

/** A row of the answer of a `sealed_…` template. */
export interface SealedRow {
  /** 0: everything; 1: one name, which may have several rows; null: totals. */
  readonly rank: number | null;
  readonly name: Name;
  /** Of rank null: the largest totals, largest first. */
  readonly cells: SlotCells | readonly (readonly [name: Name, total: number])[];
  /** Of rank null: how many names there are, and the total of all of them. Null: only some were asked for. */
  readonly names: number | null;
  readonly sum: number | null;
}

export const nothingSealed: SealedCounts = { every: [], totals: new Map(), unlisted_max: null, series: new Map() };

/** `known` is added to: what a later answer says of some names more. */
export function sealedCounts(
  plan: GroupsPlan,
  sealedTo: number | null,
  rows: readonly SealedRow[],
  known: SealedCounts = nothingSealed,
): SealedCounts {
  const totals = new Map(known.totals);
  const read = new Map<Name, number[]>();
  const all: number[] = [];
  let { every, unlisted_max: unlistedMax } = known;
  for (const { rank, name, cells, names, sum } of rows) {
    if (rank === null) {
      const listed = cells as readonly (readonly [Name, number])[];
      for (const [one, total] of listed) totals.set(one, total);
      if (names !== null) unlistedMax = names > listed.length ? (listed.at(-1)?.[1] ?? null) : null;
      if (sum !== null && plan.template === "top") every = [sum];
    } else {
      if (!("bucket_ms" in plan)) throw new Error("a question without buckets has no cells");
      const counts = rank === 0 ? all : (read.get(name) ?? []);
      addCells(counts, plan, sealedTo, cells as SlotCells);
      if (rank === 0) every = all;
      else read.set(name, counts);
    }
  }
  return { every, totals, unlisted_max: unlistedMax, series: new Map([...known.series, ...read]) };
}

/** Slots that the question's parts do not have are read by another part, or are outside of its range. */
function addCells(
  sums: number[],
  plan: Extract<Plan, { template: "buckets" | "top_buckets" }>,
  sealedTo: number | null,
  [begins, rows]: SlotCells,
): void {
  const { from, bucket_ms: bucketMs } = plan;
  const { series } = scanParts(plan, sealedTo);
  const add = (ms: number, count: number): void => addAt(sums, Math.floor((ms - from) / bucketMs), count);
  for (const [row, counts] of rows.entries()) {
    const beginMs = begins[row]! * 1_000;
    if (typeof counts === "number") {
      add(beginMs, counts);
      continue;
    }
    const isHour = counts.length === hourMs / slotMs;
    const stepMs = isHour ? slotMs : hourMs;
    for (const part of series) {
      if (part.level !== (isHour ? "hour" : "day")) continue;
      const first = Math.max(0, (part.from - beginMs) / stepMs);
      const last = Math.min(counts.length, (part.to - beginMs) / stepMs);
      for (let at = first; at < last; at += 1) if (counts[at] !== 0) add(beginMs + at * stepMs, counts[at]!);
    }
  }
}

/** Groups of an answer, or the names of which more must be known to tell which are the largest, or what their series are. */
export type Combined =
  | { readonly state: "groups"; readonly groups: readonly Group[] }
  | { readonly state: "missing"; readonly names: readonly Name[] };

export function combined(plan: GroupsPlan, sealed: SealedCounts, open: readonly OpenCell[]): Combined {
  const other = [...sealed.every];
  for (const [bucket, , count] of open) addAt(other, bucket, count);
  if (plan.template === "buckets") return { state: "groups", groups: [{ rank: null, name: null, counts: other }] };

  const chosen = leadersOf(plan.top, sealed, open);
  const unknown = "bucket_ms" in plan ? chosen.leaders.filter((name) => lacksSeries(sealed, name)) : [];
  const missing = [...new Set([...chosen.unknown, ...unknown])];
  if (missing.length > 0) return { state: "missing", names: missing };

  const series = new Map(chosen.leaders.map((name) => [name, sealedSeries(plan, sealed, name)]));
  for (const [bucket, name, count] of open) {
    const own = series.get(name);
    if (own !== undefined) addAt(own, bucket, count);
  }
  for (const own of series.values())
    for (let bucket = 0; bucket < own.length; bucket += 1) other[bucket]! -= own[bucket]!;
  const leaders = [...series].map(([name, counts], at) => ({ rank: at + 1, name, counts }));
  return { state: "groups", groups: [...leaders, { rank: null, name: null, counts: other }] };
}

const lacksSeries = ({ totals, series }: SealedCounts, name: Name): boolean =>
  (totals.get(name) ?? 0) > 0 && !series.has(name);

const sealedSeries = (plan: GroupsPlan, { totals, series }: SealedCounts, name: Name): number[] =>
  "bucket_ms" in plan ? [...(series.get(name) ?? [])] : [totals.get(name) ?? 0];

/** The largest, ties by name; and names that may be among them, of which the sealed hours' total is not known. */
function leadersOf(
  top: number,
  { totals, unlisted_max: unlistedMax }: SealedCounts,
  open: readonly OpenCell[],
): { readonly leaders: readonly Name[]; readonly unknown: readonly Name[] } {
  const sums = new Map(totals);
  const unlisted = new Map<Name, number>();
  for (const [, name, count] of open) {
    const into = unlistedMax === null || totals.has(name) ? sums : unlisted;
    into.set(name, (into.get(name) ?? 0) + count);
  }
  const ranked = [...sums]
    .filter(([, total]) => total > 0)
    .sort(([left, more], [right, less]) => less - more || byCodePoint(left, right))
    .slice(0, top);
  const least = ranked.length < top ? 0 : ranked.at(-1)![1];
  const unknown = [...unlisted].filter(([, count]) => count + (unlistedMax ?? 0) >= least);
  return { leaders: ranked.map(([name]) => name), unknown: unknown.map(([name]) => name) };
}

/** As Postgres orders by name COLLATE "C", in UTF-8; the missing name is the last one. */
export function byCodePoint(left: Name, right: Name): number {
  if (left === null || right === null) return Number(left === null) - Number(right === null);
  if (left === right) return 0;
  let at = 0;
  while (at < left.length && left[at] === right[at]) at += 1;
  // The second half of a pair is compared with its first half.
  if (at > 0 && isLowSurrogate(left, at) && isLowSurrogate(right, at)) at -= 1;
  return (left.codePointAt(at) ?? -1) - (right.codePointAt(at) ?? -1);
}

const isLowSurrogate = (text: string, at: number): boolean => (text.charCodeAt(at) & 0xfc00) === 0xdc00;

/** Behind the end as well. */
export function addAt(counts: number[], at: number, count: number): void {
  while (counts.length <= at) counts.push(0);
  counts[at]! += count;
}
