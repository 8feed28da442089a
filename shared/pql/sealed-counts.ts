// A question's counts in two parts: those of sealed hours, which never change and are kept for the next question, and those of
// the events since. Put together they are the answer, exactly. Pure; called by store.ts.

import type { Group } from "./answer.ts";
import type { Plan } from "./plan.ts";
import { floorTo, hourMs, scanParts, slotMs } from "./scan-parts.ts";

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

/**
 * What is read of sealed hours for a question: from the hour on in which its first bucket is, so that the counts serve the next
 * eleven buckets' questions as well. `skipped`: so many buckets are before the question's own first one.
 */
export function fromItsHour(plan: GroupsPlan): { readonly read: GroupsPlan; readonly skipped: number } {
  if (!("bucket_ms" in plan)) return { read: plan, skipped: 0 };
  const from = floorTo(plan.from, hourMs);
  return { read: { ...plan, from }, skipped: (plan.from - from) / plan.bucket_ms };
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
  | { readonly state: "missing"; readonly names: readonly Name[] }
  /** A name that is not listed may be among the largest of the buckets that are not skipped, and nobody knows which. */
  | { readonly state: "unlisted" };

/** `read`: counts from `skipped` buckets before the question's first one on. */
export function combined(
  plan: GroupsPlan,
  read: SealedCounts,
  open: readonly OpenCell[],
  skipped: number = 0,
): Combined {
  const sealed = without(read, skipped);
  const other = [...sealed.every];
  for (const [bucket, , count] of open) addAt(other, bucket, count);
  if (plan.template === "buckets") return { state: "groups", groups: [{ rank: null, name: null, counts: other }] };

  const chosen = leadersOf(plan.top, sealed, open);
  // What is listed is the largest of all that was read: without the first buckets it need not be.
  if (skipped > 0 && sealed.unlisted_max !== null && chosen.least <= sealed.unlisted_max) return { state: "unlisted" };
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

interface CutCounts extends SealedCounts {
  /** Names whose total is not known, since their series is not: none has more than this. */
  readonly at_most: ReadonlyMap<Name, number>;
}

/** The counts without their first buckets. */
function without(read: SealedCounts, skipped: number): CutCounts {
  if (skipped === 0) return { ...read, at_most: new Map() };
  const totals = new Map<Name, number>();
  const atMost = new Map<Name, number>();
  const series = new Map<Name, readonly number[]>();
  for (const [name, counts] of read.series) series.set(name, counts.slice(skipped));
  for (const [name, total] of read.totals) {
    const counts = read.series.get(name);
    if (counts === undefined && total > 0) atMost.set(name, total);
    else totals.set(name, total - sumTo(counts ?? [], skipped));
  }
  return { ...read, every: read.every.slice(skipped), totals, series, at_most: atMost };
}

function sumTo(counts: readonly number[], end: number): number {
  let sum = 0;
  for (let at = 0; at < Math.min(end, counts.length); at += 1) sum += counts[at]!;
  return sum;
}

const lacksSeries = ({ totals, series }: SealedCounts, name: Name): boolean =>
  (totals.get(name) ?? 0) > 0 && !series.has(name);

const sealedSeries = (plan: GroupsPlan, { totals, series }: SealedCounts, name: Name): number[] =>
  "bucket_ms" in plan ? [...(series.get(name) ?? [])] : [totals.get(name) ?? 0];

/** The largest, ties by name; and names that may be among them, of which the sealed hours' total is not known. */
function leadersOf(
  top: number,
  { totals, unlisted_max: unlistedMax, at_most: atMost }: CutCounts,
  open: readonly OpenCell[],
): { readonly leaders: readonly Name[]; readonly unknown: readonly Name[]; readonly least: number } {
  const sums = new Map(totals);
  /** With the most that they may have. */
  const unsure = new Map(atMost);
  for (const [, name, count] of open) {
    const isUnlisted = unlistedMax !== null && !totals.has(name);
    const into = isUnlisted || atMost.has(name) ? unsure : sums;
    into.set(name, (into.get(name) ?? (into === unsure ? unlistedMax! : 0)) + count);
  }
  const ranked = [...sums]
    .filter(([, total]) => total > 0)
    .sort(([left, more], [right, less]) => less - more || byCodePoint(left, right))
    .slice(0, top);
  const least = ranked.length < top ? 0 : ranked.at(-1)![1];
  const unknown = [...unsure].filter(([, most]) => most >= least);
  return { leaders: ranked.map(([name]) => name), unknown: unknown.map(([name]) => name), least };
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
