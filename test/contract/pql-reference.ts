// What a PQL answer should be, the slow and obvious way: loops over rows in memory. Shares no code with the engine but
// the list of subjects. The differential test holds the engine to it.

import type { EventColumns } from "../../shared/contract/events.ts";
import type { PqlAnswer } from "../../shared/contract/http-pql.ts";
import { subjects, type Field } from "../../shared/pql/catalogue.ts";
import type { Ask, Wanted } from "./pql-generator.ts";

type Value = string | number | boolean;
const bucketsMs = { "1m": 60_000, "5m": 300_000, "1h": 3_600_000, "1d": 86_400_000 };

/** Null where the row has no such value. Times as milliseconds. */
function fieldOf(row: EventColumns, field: Field): Value | null {
  const holder = (field.name.startsWith("attrs.") ? JSON.parse(row.attrs) : row) as Record<string, Value | null>;
  const value = holder[field.name.replace("attrs.", "")] ?? null;
  return value !== null && field.kind === "timestamp" ? Date.parse(String(value)) : value;
}

/** By code points, as UTF-8 sorts. */
function compare(left: Value, right: Value): number {
  if (typeof left !== "string" || typeof right !== "string") return Number(left) - Number(right);
  const [a, b] = [Array.from(left), Array.from(right)];
  for (let at = 0; at < Math.min(a.length, b.length); at += 1) {
    const difference = a[at]!.codePointAt(0)! - b[at]!.codePointAt(0)!;
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}

function like(text: readonly string[], pattern: readonly string[]): boolean {
  const [first, ...rest] = pattern;
  if (first === undefined) return text.length === 0;
  if (first === "%") return like(text, rest) || (text.length > 0 && like(text.slice(1), pattern));
  if (text.length === 0) return false;
  if (first === "\\") return text[0] === rest[0] && like(text.slice(1), rest.slice(1));
  return (first === "_" || text[0] === first) && like(text.slice(1), rest);
}

function holds(row: EventColumns, wanted: Wanted): boolean {
  if (wanted.kind === "not") return !holds(row, wanted.of);
  if ("of" in wanted) {
    const holding = wanted.of.filter((part) => holds(row, part)).length;
    return wanted.kind === "and" ? holding === wanted.of.length : holding > 0;
  }
  const value = fieldOf(row, wanted.field);
  if (wanted.kind === "compare" && wanted.op === "!=") return value === null || compare(value, wanted.value) !== 0;
  if (value === null) return false;
  if (wanted.kind === "exists") return true;
  if (wanted.kind === "in") return wanted.values.some((one) => compare(value, one) === 0);
  if (wanted.kind === "like") return like(Array.from(String(value)), Array.from(wanted.pattern));
  const difference = compare(value, wanted.value);
  if (wanted.op === "=") return difference === 0;
  if (wanted.op === "<") return difference < 0;
  if (wanted.op === "<=") return difference <= 0;
  if (wanted.op === ">") return difference > 0;
  return difference >= 0;
}

const iso = (ms: number): string => new Date(ms).toISOString();

/** The whole answer; of rows, all pages at once. */
export function reference(rows: readonly EventColumns[], ask: Ask, now: number): PqlAnswer {
  const bucketMs = ask.bucket === null ? null : bucketsMs[ask.bucket];
  let from = now - (ask.since?.ms ?? 86_400_000);
  if (bucketMs !== null) from = Math.floor(from / bucketMs) * bucketMs;
  const types: readonly string[] = subjects.get(ask.subject)!;
  const found = rows.filter((row) => {
    const at = Date.parse(row.logged_at);
    return types.includes(row.type) && at >= from && at < now && (ask.where === null || holds(row, ask.where));
  });
  const covers = { from: iso(from), to: iso(now) };
  // All rows are there, so that nothing before the newest of them is missing, whatever was asked.
  const loggedAt = rows.map((row) => Date.parse(row.logged_at));
  const complete_to = rows.length === 0 ? null : iso(Math.max(...loggedAt));
  if (bucketMs === null && ask.top === null) {
    const newest = found.sort(
      (left, right) => Date.parse(right.logged_at) - Date.parse(left.logged_at) || right.seq - left.seq,
    );
    const columns = ["logged_at", "seq", "occurred_at", "event_id", "type", "source", "principal", "execution_id"];
    columns.push("package", "version", "channel", "outcome", "rule", "action", "units", "duration_ms", "attrs");
    const shown = newest.map((row) =>
      Object.fromEntries(columns.map((name) => [name, row[name as keyof EventColumns]])),
    );
    return { kind: "rows", covers, complete_to, columns, rows: shown, next_cursor: null };
  }

  const nameOf = (row: EventColumns): string | null => {
    const value = fieldOf(row, ask.top!.field);
    return value === null ? null : String(value);
  };
  const counts = new Map<string | null, number>();
  if (ask.top !== null) for (const row of found) counts.set(nameOf(row), (counts.get(nameOf(row)) ?? 0) + 1);
  const groups = [...counts]
    .map(([name, total]) => ({ name, total }))
    .sort((left, right) => {
      if (left.total !== right.total) return right.total - left.total;
      if (left.name === null || right.name === null) return left.name === null ? 1 : -1;
      return compare(left.name, right.name);
    })
    .slice(0, ask.top?.count ?? 0);
  const isOther = (row: EventColumns): boolean => ask.top === null || groups.every(({ name }) => name !== nameOf(row));

  const buckets = [];
  for (let start = from; start <= now; start += bucketMs ?? Infinity) {
    if (bucketMs === null) break;
    const inside = found.filter(
      ({ logged_at }) => Date.parse(logged_at) >= start && Date.parse(logged_at) < start + bucketMs,
    );
    buckets.push({
      start: iso(start),
      partial: now < start + bucketMs,
      counts: groups.map(({ name }) => inside.filter((row) => nameOf(row) === name).length),
      other: inside.filter(isOther).length,
    });
  }
  return {
    kind: "groups",
    covers,
    complete_to,
    field: ask.top?.field.name ?? null,
    bucket_ms: bucketMs,
    groups,
    other: found.filter(isOther).length,
    total: found.length,
    buckets: bucketMs === null ? null : buckets,
  };
}
