// Which rows a question reads: the range cut into parts, each read from the coarsest rows that hold it exactly. Sealed hours
// and days have rows of counts in slots (audit_hours, audit_days); everything else is counted from the events themselves.
// Pure: the templates read what this says, and the price is what this says.

import type { Condition, Plan } from "./plan.ts";
import type { Field } from "./catalogue.ts";

export const slotMs = 300_000;
export const hourMs = 3_600_000;
export const dayMs = 86_400_000;

/** The begin of the step that `ms` is in. */
export const floorTo = (ms: number, step: number): number => Math.floor(ms / step) * step;
/** The begin of the step behind it, or `ms` itself. */
export const ceilTo = (ms: number, step: number): number => Math.ceil(ms / step) * step;

/**
 * Half-open, milliseconds since 1970. `day` parts begin and end with a UTC day, `hour` parts with a slot of five minutes.
 * An hour part that does not begin with its hour takes that hour's later slots.
 */
export interface ScanPart {
  readonly level: "raw" | "hour" | "day";
  readonly from: number;
  readonly to: number;
}

export interface ScanParts {
  /** What the groups' totals, and the choice of the K largest, are read from. */
  readonly totals: readonly ScanPart[];
  /** What the counts by bucket are read from; none where nothing is asked by bucket. */
  readonly series: readonly ScanPart[];
}

/** The fields that rows of counts are kept by. */
const keptFields: ReadonlySet<string> = new Set(["type", "outcome", "package"]);

/** True where every field of the question is one that rows of counts are kept by, and its buckets are whole slots. */
export function fitsSlots(plan: Plan): boolean {
  if (plan.template === "rows" || plan.to - plan.from < hourMs) return false;
  if ("bucket_ms" in plan && plan.bucket_ms % slotMs !== 0) return false;
  const fields = [...("field" in plan ? [plan.field] : []), ...fieldsOf(plan.condition)];
  return fields.every(({ name }) => keptFields.has(name));
}

/** Every field of a condition, once a test. */
export function fieldsOf(condition: Condition | null): readonly Field[] {
  if (condition === null) return [];
  return "of" in condition ? condition.of.flatMap(fieldsOf) : [condition.field];
}

/** Where packages are chosen, rows of counts over all packages are no help. */
export const asksPackage = (plan: Plan): boolean => fieldsOf(plan.condition).some(({ name }) => name === "package");

/**
 * `sealedTo`: every hour before it has its rows of counts, every whole day before it too; a UTC hour, or null where there are
 * none. An earlier one than the truth gives the same answer, and reads more.
 */
export function scanParts(plan: Plan, sealedTo: number | null): ScanParts {
  const hasSeries = "bucket_ms" in plan;
  if (sealedTo === null || !fitsSlots(plan)) {
    const raw = [{ level: "raw", from: plan.from, to: plan.to } as const];
    return { totals: raw, series: hasSeries ? raw : [] };
  }
  const totals = cover(plan.from, plan.to, sealedTo, true);
  if (!hasSeries) return { totals, series: [] };
  return { totals, series: plan.bucket_ms >= hourMs ? totals : cover(plan.from, plan.to, sealedTo, false) };
}

function cover(from: number, to: number, sealedTo: number, withDays: boolean): readonly ScanPart[] {
  const end = Math.min(floorTo(to, slotMs), sealedTo);
  const begin = Math.min(ceilTo(from, slotMs), end);
  if (begin >= end) return [{ level: "raw", from, to }];
  const firstDay = ceilTo(begin, dayMs);
  const lastDay = floorTo(end, dayMs);
  const inner: ScanPart[] =
    withDays && firstDay < lastDay
      ? [
          { level: "hour", from: begin, to: firstDay },
          { level: "day", from: firstDay, to: lastDay },
          { level: "hour", from: lastDay, to: end },
        ]
      : [{ level: "hour", from: begin, to: end }];
  return [{ level: "raw" as const, from, to: begin }, ...inner, { level: "raw" as const, from: end, to }].filter(
    (part) => part.from < part.to,
  );
}
