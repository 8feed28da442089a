// What a question costs, before any SQL: rows to read, from counters. Pure; the tenant's PqlMeter object asks it
// (meter.ts), since it has the counters.

import type { EventType } from "../contract/events.ts";
import { columns } from "./catalogue.ts";
import { bucketsMs } from "./limits.ts";
import type { Plan } from "./plan.ts";
import {
  asksPackage,
  ceilTo,
  dayMs,
  fieldsOf,
  fitsSlots,
  floorTo,
  hourMs,
  scanParts,
  type ScanPart,
} from "./scan-parts.ts";

/** Counters of what stands in Postgres: one number a type, in the order of `types`. Times are UTC hours, half-open. */
export interface Counts {
  /** Events. */
  events(types: readonly EventType[], from: number, to: number): readonly number[];
  /** Rows of audit_hours. */
  hourGroups(types: readonly EventType[], from: number, to: number): readonly number[];
  /** Rows of audit_days; `from` and `to` are UTC days. */
  dayGroups(types: readonly EventType[], from: number, to: number): readonly number[];
  /** No event was logged after it; milliseconds since 1970. Null: there is none. */
  readonly indexed_to: number | null;
  /** As `scanParts` takes it. */
  readonly sealed_to: number | null;
}

/** A question as the meter needs it. */
export interface Priced {
  /** An outline will do. */
  readonly plan: Plan;
  /** Where a page of rows begins: nothing logged after this instant is read. Null: at the range's end. */
  readonly before_ms: number | null;
}

/**
 * The plan without its values: its condition is one test of each field that it names. It is read from the same parts
 * and has the same price, whatever was in it: a thousand values need not travel.
 */
export function outlineOf(plan: Plan): Plan {
  const byName = new Map(fieldsOf(plan.condition).map((field) => [field.name, field]));
  const tests = [...byName.values()].map((field) => ({ kind: "exists", field, negated: false }) as const);
  return { ...plan, condition: tests.length === 0 ? null : { kind: "and", of: tests } };
}

/**
 * Rows that the question reads at most, as far as the counters know; an hour that is read in part counts in proportion. An
 * hour without counters has no rows: the log tells of each hour that it writes to. `pageRows`: rows of a page.
 */
export function priceOf({ plan, before_ms: before }: Priced, counts: Counts, pageRows: number): number {
  if (plan.template === "rows") {
    const to = before === null ? plan.to : Math.min(plan.to, before + 1);
    const events = eventsIn(plan.types, plan.from, to, counts);
    // Without a condition each type gives its newest page, and reads no more than that.
    return sum(plan.condition === null ? events.map((count) => Math.min(count, pageRows + 1)) : events);
  }
  const { totals, series } = scanParts(plan, counts.sealed_to);
  const read = (parts: readonly ScanPart[]): number => sum(parts.map((part) => rowsOf(plan.types, part, counts)));
  if (plan.template === "buckets") return read(series);
  if (plan.template === "top") return read(totals);
  // Events alone are counted in one scan; rows of counts once for the groups' totals and once for the series, of the leaders and of
  // everyone: where packages are chosen, everyone's is not in the rows over all packages, and is read from the leaders' rows again.
  if (totals.every(({ level }) => level === "raw")) return read(totals);
  const rawOnce = read(series.filter(({ level }) => level === "raw"));
  return read(totals) + read(series) + (asksPackage(plan) ? read(series) - rawOnce : 0);
}

function rowsOf(types: readonly EventType[], { level, from, to }: ScanPart, counts: Counts): number {
  if (level === "raw") return sum(eventsIn(types, from, to, counts));
  if (level === "day") return sum(counts.dayGroups(types, from, to));
  // A row of an hour is read whole, whichever of its slots are asked for.
  return sum(counts.hourGroups(types, floorTo(from, hourMs), ceilTo(to, hourMs)));
}

function eventsIn(types: readonly EventType[], from: number, to: number, counts: Counts): readonly number[] {
  if (from >= to) return types.map(() => 0);
  const [first, last] = [ceilTo(from, hourMs), floorTo(to, hourMs)];
  const parts: (readonly number[])[] = first < last ? [counts.events(types, first, last)] : [];
  const cut = (hour: number): void => {
    const share = shareOf(hour, from, to, counts.indexed_to);
    if (share > 0) parts.push(counts.events(types, hour, hour + hourMs).map((count) => Math.ceil(count * share)));
  };
  if (first > from) cut(first - hourMs);
  if (last < to && last >= first) cut(last);
  return types.map((_, at) => sum(parts.map((part) => part[at]!)));
}

/** How much of an hour's events are in the range, were they spread evenly: the newest hour's end with the newest event. */
function shareOf(hour: number, from: number, to: number, indexedTo: number | null): number {
  const isNewest = indexedTo !== null && indexedTo >= hour && indexedTo < hour + hourMs;
  const end = isNewest ? indexedTo + 1 : hour + hourMs;
  return Math.max(0, Math.min(to, end) - Math.max(from, hour)) / (end - hour);
}

const sum = (counts: readonly number[]): number => counts.reduce((total, count) => total + count, 0);

/** A smaller question, and what it costs. */
export interface Change {
  readonly kind: "since" | "drop" | "top" | "bucket";
  /** As it is written: `SINCE 7d`, `drop rule`, `TOP 5 BY package`, `BUCKET BY 5m`. */
  readonly text: string;
  readonly rows: number;
}

const sinceSteps: readonly (readonly [text: string, ms: number])[] = [
  ...[180, 90, 30, 14, 7, 3, 1].map((days): readonly [string, number] => [`${days}d`, days * dayMs]),
  ...[12, 6, 3, 1].map((hours): readonly [string, number] => [`${hours}h`, hours * hourMs]),
  ["15m", 15 * 60_000],
  ["5m", 5 * 60_000],
  ["1m", 60_000],
];

/**
 * What would fit into `rowsMax`, the least change first: a shorter range, one field less, a wider bucket; of each kind the
 * closest to what was asked, priced as it stands there. At most 18 prices are worked out.
 */
export function changesThatFit(plan: Plan, counts: Counts, pageRows: number, rowsMax: number): readonly Change[] {
  const firstThatFits = (
    candidates: readonly (Pick<Change, "kind" | "text"> & { readonly plan: Plan })[],
  ): Change[] => {
    for (const { kind, text, plan } of candidates) {
      const rows = priceOf({ plan, before_ms: null }, counts, pageRows);
      if (rows <= rowsMax) return [{ kind, text, rows }];
    }
    return [];
  };
  return [
    ...firstThatFits(
      sinceSteps
        .filter(([, ms]) => plan.to - ms > plan.from)
        .map(([text, ms]) => ({ kind: "since", text: `SINCE ${text}`, plan: withSince(plan, ms) })),
    ),
    ...firstThatFits(withOneFieldLess(plan)),
    ...firstThatFits(withWiderBuckets(plan)),
  ];
}

/** The plan of the same query with another SINCE. */
export function withSince(plan: Plan, sinceMs: number): Plan {
  const start = Math.max(0, plan.to - sinceMs);
  return { ...plan, from: "bucket_ms" in plan ? floorTo(start, plan.bucket_ms) : start };
}

/** Without the one field that keeps it from rows of counts; rows without the one field that they are searched by. */
function withOneFieldLess(plan: Plan): readonly (Pick<Change, "kind" | "text"> & { readonly plan: Plan })[] {
  const helps = (changed: Plan): boolean =>
    plan.template === "rows" ? changed.condition === null : !fitsSlots(plan) && fitsSlots(changed);
  const fields = new Map(fieldsOf(plan.condition).map((field) => [field.name, field]));
  const less = [...fields.keys()].map((name) => {
    const rest = [...fields.values()].filter((field) => field.name !== name);
    const of = rest.map((field) => ({ kind: "exists", field, negated: false }) as const);
    const condition = of.length === 0 ? null : ({ kind: "and", of } as const);
    return { kind: "drop", text: `drop ${name}`, plan: { ...plan, condition } } as const;
  });
  const byPackage =
    "field" in plan
      ? ([
          { kind: "top", text: `TOP ${plan.top} BY package`, plan: { ...plan, field: columns.get("package")! } },
        ] as const)
      : [];
  return [...less, ...byPackage].filter((candidate) => helps(candidate.plan));
}

function withWiderBuckets(plan: Plan): readonly (Pick<Change, "kind" | "text"> & { readonly plan: Plan })[] {
  if (!("bucket_ms" in plan)) return [];
  return [...bucketsMs]
    .filter(([, ms]) => ms > plan.bucket_ms)
    .map(([name, ms]) => ({
      kind: "bucket",
      text: `BUCKET BY ${name}`,
      plan: { ...plan, bucket_ms: ms, from: floorTo(plan.from, ms) },
    }));
}
