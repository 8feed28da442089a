// Tree to plan: looks names up, fits values to fields, computes the bounds once, chooses a template. Pure: the plan is
// data, holds no SQL, and has every value that the SQL will need. Called by engine.ts.

import type { Comparator, FieldName, Literal, Predicate, Query } from "./ast.ts";
import { attributesBySubject, columns, subjectNames, subjects, type Field, type FieldKind } from "./catalogue.ts";
import type { EventType } from "../contract/events.ts";
import { bucketsMs, limits } from "./limits.ts";
import { nearest, refuserOf, type Refuse } from "./pql-error.ts";

export type Value = string | number | boolean;

/**
 * A condition with every NOT pushed down to its tests, so that a test alone is negated. A test is true or false, never
 * unknown: of a missing value every test is false, and its negation true. Times are milliseconds.
 */
export type Condition =
  | { readonly kind: "and" | "or"; readonly of: readonly Condition[] }
  | (Test & { readonly field: Field; readonly negated: boolean });
export type Test =
  | { readonly kind: "compare"; readonly op: Exclude<Comparator, "!=">; readonly value: Value }
  | { readonly kind: "in"; readonly values: readonly Value[] }
  | { readonly kind: "like"; readonly pattern: string }
  | { readonly kind: "exists" };

interface Scan {
  readonly types: readonly EventType[];
  /** Half-open, milliseconds since 1970. */
  readonly from: number;
  readonly to: number;
  readonly condition: Condition | null;
}
export type Plan = Scan &
  (
    | { readonly template: "rows" }
    | { readonly template: "buckets"; readonly bucket_ms: number }
    | { readonly template: "top"; readonly field: Field; readonly top: number }
    | { readonly template: "top_buckets"; readonly field: Field; readonly top: number; readonly bucket_ms: number }
  );
export type TemplateName = Plan["template"];

/** Throws PqlError where the tree asks for what is not there or not allowed. `now`: milliseconds since 1970. */
export function planQuery(query: Query, text: string, now: number): Plan {
  const refuse = refuserOf(text);
  const types = subjectTypes(query.subject, refuse);
  const fieldOf = fieldFinder(query.subject.name.toLowerCase(), refuse);
  const bucket = query.bucket === null ? null : checkBucket(query.bucket, refuse);
  const since = query.since === null ? limits.sinceDefaultMs : checkSince(query.since, refuse);
  const top = query.top === null ? null : checkTop(query.top, fieldOf, refuse);
  const condition = query.where === null ? null : conditionOf(query.where.predicate, false, fieldOf, refuse);
  // A first bucket cut in half would look like a quiet hour, so that the range begins with its bucket.
  const start = Math.max(0, now - since);
  const scan = { types, condition, to: now, from: bucket === null ? start : start - (start % bucket) };
  if (query.bucket !== null && bucket !== null) checkCells(scan, bucket, top?.count ?? 0, query.bucket.at, refuse);
  if (top === null)
    return bucket === null ? { ...scan, template: "rows" } : { ...scan, template: "buckets", bucket_ms: bucket };
  const group = { field: top.field, top: top.count };
  return bucket === null
    ? { ...scan, ...group, template: "top" }
    : { ...scan, ...group, template: "top_buckets", bucket_ms: bucket };
}

/** Buckets of a range; the last one is the one that `to` is in. */
export const bucketCount = (from: number, to: number, bucketMs: number): number =>
  Math.floor((to - from) / bucketMs) + 1;

function subjectTypes(subject: Query["subject"], refuse: Refuse): readonly EventType[] {
  const types = subjects.get(subject.name.toLowerCase());
  if (types !== undefined) return types;
  const meant = nearest(subject.name, subjectNames);
  return refuse(subject.at, `There is no subject \`${subject.name.slice(0, 80)}\`.`, {
    expected: subjectNames,
    suggestion: meant === null ? null : `Did you mean \`${meant}\`?`,
  });
}

type FieldFinder = (name: FieldName) => Field;

function fieldFinder(subject: string, refuse: Refuse): FieldFinder {
  const attributes = attributesBySubject.get(subject) ?? new Map<string, Field>();
  return ({ name, at }) => {
    const field = columns.get(name) ?? attributes.get(name);
    if (field !== undefined) return field;
    if (name === "tenant_id" || name === "tenant") {
      return refuse(at, "A query reads its own tenant, always and only.", { suggestion: `Leave \`${name}\` out.` });
    }
    const known = name.startsWith("attrs") ? attributes : columns;
    const attribute = attributes.has(`attrs.${name}`) ? `attrs.${name}` : null;
    const meant = attribute ?? nearest(name, known.keys());
    const what = name.startsWith("attrs.") ? "attribute" : "field";
    return refuse(at, `${subject} have no ${what} \`${name.slice(0, 80)}\`.`, {
      expected: [...known.keys()].sort(),
      suggestion: meant === null ? null : `Did you mean \`${meant}\`?`,
    });
  };
}

function checkBucket({ ms, text, at }: NonNullable<Query["bucket"]>, refuse: Refuse): number {
  const names = [...bucketsMs.keys()];
  const known = bucketsMs.get(text);
  if (known !== undefined) return known;
  const closest = names.reduce((best, name) => {
    const away = (candidate: string): number => Math.abs(Math.log((bucketsMs.get(candidate) ?? 1) / Math.max(1, ms)));
    return away(name) < away(best) ? name : best;
  });
  return refuse(at, "There is no such bucket.", { expected: names, suggestion: `Write BUCKET BY ${closest}.` });
}

function checkSince({ ms, at }: NonNullable<Query["since"]>, refuse: Refuse): number {
  if (ms >= 1 && ms <= limits.sinceMaxMs) return ms;
  return refuse(at, ms < 1 ? "SINCE takes a duration over zero." : "SINCE goes back 400 days at most.", {
    expected: ["1ms to 400d"],
    suggestion: ms < 1 ? "Write SINCE 24h." : "Write SINCE 400d.",
  });
}

function checkTop(
  top: NonNullable<Query["top"]>,
  fieldOf: FieldFinder,
  refuse: Refuse,
): { readonly count: number; readonly field: Field } {
  if (top.count < 1 || top.count > limits.topMax) {
    refuse(top.at, `TOP takes 1 to ${limits.topMax} groups.`, {
      expected: [`1 to ${limits.topMax}`],
      suggestion: `Write TOP ${top.count < 1 ? 10 : limits.topMax}; what is left out is counted in \`other\`.`,
    });
  }
  const field = fieldOf(top.field);
  if (!field.groupable) {
    refuse(top.field.at, `\`${field.name}\` is not a field to group by: nearly every row has a value of its own.`, {
      expected: [...columns.values()].filter(({ groupable }) => groupable).map(({ name }) => name),
      suggestion: field.kind === "timestamp" ? "Write BUCKET BY 1h to count along the time." : null,
    });
  }
  return { count: top.count, field };
}

function checkCells(
  { from, to }: Pick<Scan, "from" | "to">,
  bucketMs: number,
  top: number,
  at: number,
  refuse: Refuse,
): void {
  const cells = (ms: number): number => bucketCount(from, to, ms) * (top + 1);
  if (cells(bucketMs) <= limits.cellsMax) return;
  const wider = [...bucketsMs].find(([, ms]) => ms > bucketMs && cells(ms) <= limits.cellsMax);
  // One bucket less than fits: the range may begin and end inside of one.
  const fitting = (Math.floor(limits.cellsMax / (top + 1)) - 1) * bucketMs;
  refuse(at, `The answer would have ${cells(bucketMs)} cells; up to ${limits.cellsMax} are given.`, {
    suggestion: [...(wider === undefined ? [] : [`BUCKET BY ${wider[0]}`]), `SINCE ${durationText(fitting)}`].join(
      ", or ",
    ),
  });
}

function durationText(ms: number): string {
  const units = [
    ["d", 86_400_000],
    ["h", 3_600_000],
    ["m", 60_000],
  ] as const;
  const [unit, size] = units.find(([, size]) => ms >= size) ?? units[2];
  return `${Math.floor(ms / size)}${unit}`;
}

function conditionOf(predicate: Predicate, negated: boolean, fieldOf: FieldFinder, refuse: Refuse): Condition {
  if (predicate.kind === "not") return conditionOf(predicate.of, !negated, fieldOf, refuse);
  if ("of" in predicate) {
    // De Morgan: NOT (a AND b) is NOT a OR NOT b.
    const kind = (predicate.kind === "and") === negated ? "or" : "and";
    return { kind, of: predicate.of.map((part) => conditionOf(part, negated, fieldOf, refuse)) };
  }
  const field = fieldOf(predicate.field);
  if (predicate.kind === "exists") return { kind: "exists", field, negated };
  if (predicate.kind === "like") return { kind: "like", field, pattern: patternFor(field, predicate, refuse), negated };
  if (predicate.kind === "in") {
    if (predicate.values.length > limits.inValuesMax) {
      refuse(predicate.at, `IN takes 1 to 1,000 values, and here are ${predicate.values.length}.`);
    }
    return { kind: "in", field, values: predicate.values.map((value) => valueFor(field, value, refuse)), negated };
  }
  const value = valueFor(field, predicate.value, refuse);
  // NOT a = b and a != b are one thing, also where a is missing.
  if (predicate.op === "!=") return { kind: "compare", field, op: "=", value, negated: !negated };
  if (field.kind === "boolean" && predicate.op !== "=") {
    refuse(predicate.value.at, `\`${field.name}\` is true or false, not more or less.`, { expected: ["=", "!="] });
  }
  return { kind: "compare", field, op: predicate.op, value, negated };
}

const accepted: Readonly<Record<FieldKind, { readonly kinds: readonly Literal["kind"][]; readonly expected: string }>> =
  {
    text: { kinds: ["text"], expected: "a string" },
    integer: { kinds: ["integer"], expected: "an integer" },
    duration: { kinds: ["duration", "integer"], expected: "a duration like 5s, or an integer of milliseconds" },
    boolean: { kinds: ["boolean"], expected: "true or false" },
    timestamp: { kinds: ["timestamp"], expected: "a timestamp like 2026-04-13T16:00:00Z" },
  };

function valueFor(field: Field, literal: Literal, refuse: Refuse): Value {
  const { kinds, expected } = accepted[field.kind];
  if (kinds.includes(literal.kind)) return literal.value;
  return refuse(literal.at, `\`${field.name}\` is compared with ${expected}.`, {
    expected: [expected],
    suggestion:
      field.kind === "text"
        ? `Write "${literal.text.slice(0, 80)}".`
        : literal.kind === "text"
          ? "Strings alone take quotes."
          : null,
  });
}

function patternFor(field: Field, like: Extract<Predicate, { kind: "like" }>, refuse: Refuse): string {
  const literal = like.pattern;
  if (field.kind !== "text")
    refuse(like.field.at, `LIKE is for text, and \`${field.name}\` is not.`, { expected: ["="] });
  const pattern = String(valueFor(field, literal, refuse));
  if (pattern.length > limits.likePatternMax) {
    refuse(literal.at, `A LIKE pattern has up to ${limits.likePatternMax} characters.`);
  }
  // A backslash makes the next character plain; the last one would have none.
  if (/(?:^|[^\\])(?:\\\\)*\\$/.test(pattern)) {
    refuse(literal.at, "A LIKE pattern cannot end in a backslash.", {
      suggestion: 'Write "\\\\\\\\" for one backslash: once for the string, once for LIKE.',
    });
  }
  return pattern;
}
