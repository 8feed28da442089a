// From what Postgres counted to what the caller reads: gaps filled, totals added up, pages cut. Pure; called by engine.ts.

import { base64, base64Bytes, utf8, utf8Text } from "../contract/bytes.ts";
import type { PqlAnswer } from "../contract/http-pql.ts";
import { isoTime } from "../contract/iso-time.ts";
import { bucketCount, type Plan } from "./plan.ts";
import { dayMs } from "./scan-parts.ts";
import type { RowPosition } from "./templates.ts";

/** A counted group; `rank` null is everything that no group of the answer has. */
export interface Group {
  readonly rank: number | null;
  readonly name: string | null;
  /** By bucket, from the first one on; 0 behind its end. One number where nothing is asked by bucket. */
  readonly counts: readonly number[];
}

type GroupsAnswer = Extract<PqlAnswer, { kind: "groups" }>;
type RowsAnswer = Extract<PqlAnswer, { kind: "rows" }>;

const isoTimeOrNull = (ms: number | null): string | null => (ms === null ? null : isoTime(ms));

/** As `isoTime`, of a whole minute: an answer has hundreds of them, and a day has them all in common. */
function isoMinute(ms: number): string {
  const day = ms - (ms % dayMs);
  if (day !== dayText.day) dayText = { day, text: isoTime(day).slice(0, 11) };
  const minute = (ms - day) / 60_000;
  return `${dayText.text}${twoDigits[Math.floor(minute / 60)]}:${twoDigits[minute % 60]}:00.000Z`;
}
const twoDigits = Array.from({ length: 60 }, (_, number) => String(number).padStart(2, "0"));
/** Of the day that was asked for last. */
let dayText = { day: 0, text: "1970-01-01T" };

const sum = (counts: readonly number[]): number => counts.reduce((total, count) => total + count, 0);

/** Every bucket of the range is there, and every count is in exactly one group or in `other`. */
export function groupsAnswer(
  plan: Exclude<Plan, { template: "rows" }>,
  groups: readonly Group[],
  completeTo: number | null,
): GroupsAnswer {
  const bucketMs = plan.template === "top" ? null : plan.bucket_ms;
  const slots = bucketMs === null ? 1 : bucketCount(plan.from, plan.to, bucketMs);
  const series = (group: Group | undefined): readonly number[] => {
    const counts = group?.counts ?? [];
    if (counts.length >= slots) return counts;
    return [...counts, ...Array.from({ length: slots - counts.length }, () => 0)];
  };
  const named = groups.filter(({ rank }) => rank !== null).sort((left, right) => left.rank! - right.rank!);
  const ranked = named.map((group) => ({ name: group.name, counts: series(group) }));
  const other = series(groups.find(({ rank }) => rank === null));
  const totals = ranked.map(({ name, counts }) => ({ name, total: sum(counts) }));
  return {
    kind: "groups",
    covers: { from: isoTime(plan.from), to: isoTime(plan.to) },
    complete_to: isoTimeOrNull(completeTo),
    field: plan.template === "buckets" ? null : plan.field.name,
    bucket_ms: bucketMs,
    groups: totals,
    other: sum(other),
    total: sum(totals.map(({ total }) => total)) + sum(other),
    buckets:
      bucketMs === null
        ? null
        : other.map((left, slot) => ({
            start: isoMinute(plan.from + slot * bucketMs),
            partial: plan.from + (slot + 1) * bucketMs > plan.to,
            counts: ranked.map(({ counts }) => counts[slot]!),
            other: left,
          })),
  };
}

/** The columns of a row, in order. `attrs` is the RFC 8785 text of the event's attributes. */
export const rowColumns = [
  "logged_at",
  "seq",
  "occurred_at",
  "event_id",
  "type",
  "source",
  "principal",
  "execution_id",
  "package",
  "version",
  "channel",
  "outcome",
  "rule",
  "action",
  "units",
  "duration_ms",
  "attrs",
] as const;
const integerColumns: ReadonlySet<string> = new Set(["seq", "units", "duration_ms"]);

/** `found` holds one row more than a page where there is a next page. */
export function rowsAnswer(
  plan: Extract<Plan, { template: "rows" }>,
  found: readonly Readonly<Record<string, unknown>>[],
  completeTo: number | null,
  pageRows: number,
  queryDigest: string,
): RowsAnswer {
  const rows = found.slice(0, pageRows).map((row) => {
    const pairs = rowColumns.map((name): [string, string | number | null] => {
      const value = row[name] as string | null;
      return [name, value !== null && integerColumns.has(name) ? Number(value) : value];
    });
    return Object.fromEntries(pairs);
  });
  const last = found.length > pageRows ? rows.at(-1) : undefined;
  return {
    kind: "rows",
    covers: { from: isoTime(plan.from), to: isoTime(plan.to) },
    complete_to: isoTimeOrNull(completeTo),
    columns: [...rowColumns],
    rows,
    next_cursor:
      last === undefined
        ? null
        : cursorText({
            query_digest: queryDigest,
            to: plan.to,
            complete_to: completeTo,
            before: { logged_at: Date.parse(String(last["logged_at"])), seq: Number(last["seq"]) },
          }),
  };
}

/** Where a next page begins: the question it belongs to, what the first page said of its range, the last row. */
export interface Cursor {
  readonly query_digest: string;
  /** The instant that the question was first asked. */
  readonly to: number;
  readonly complete_to: number | null;
  readonly before: RowPosition;
}

const cursorText = ({ query_digest, to, complete_to, before }: Cursor): string =>
  base64(utf8(JSON.stringify([query_digest, to, complete_to, before.logged_at, before.seq])));

/**
 * Null for what `cursorText` did not write, to the letter: no other spelling of a number, no blanks. Whatever it holds,
 * row security and the query's own range bound its reach.
 */
export function parseCursor(text: string): Cursor | null {
  let parts: unknown;
  try {
    parts = JSON.parse(utf8Text(base64Bytes(text)));
  } catch {
    return null;
  }
  if (!Array.isArray(parts) || parts.length !== 5) return null;
  const [digest, to, completeTo, loggedAt, seq] = parts as readonly unknown[];
  if (typeof digest !== "string" || !isCount(to) || !isCount(loggedAt) || !isCount(seq)) return null;
  if (completeTo !== null && !isCount(completeTo)) return null;
  const cursor = { query_digest: digest, to, complete_to: completeTo, before: { logged_at: loggedAt, seq } };
  return cursorText(cursor) === text ? cursor : null;
}

/** Up to the last instant of the year 9999, which is also far beyond any `seq`. */
const isCount = (value: unknown): value is number =>
  typeof value === "number" && Number.isSafeInteger(value) && value >= 0 && value <= 253_402_300_799_999;
