// Random questions for PQL, as trees and as text, and skewed rows to ask about. The tree is what the reference answers; the text
// is what the engine is asked. Used by the differential tests and by the fuzz test.

import fc from "fast-check";
import {
  attributesOf,
  columns,
  subjectNames,
  subjects,
  type Field,
  type SubjectName,
} from "../../shared/pql/catalogue.ts";
import type { EventColumns } from "../../shared/contract/events.ts";
import { anyText } from "../support/any-text.ts";
import { rowOf } from "./pql-support.ts";

export type Wanted =
  | { kind: "and" | "or"; of: Wanted[] }
  | { kind: "not"; of: Wanted }
  | { kind: "compare"; field: Field; op: "=" | "!=" | "<" | "<=" | ">" | ">="; value: string | number | boolean }
  | { kind: "in"; field: Field; values: (string | number | boolean)[] }
  | { kind: "like"; field: Field; pattern: string }
  | { kind: "exists"; field: Field };

export interface Ask {
  readonly subject: SubjectName;
  readonly where: Wanted | null;
  readonly bucket: "1m" | "5m" | "1h" | "1d" | null;
  readonly top: { readonly count: number; readonly field: Field } | null;
  readonly since: { readonly text: string; readonly ms: number } | null;
}

/** Values that rows of the tests have, and some that none has. Text avoids what no column may hold (NUL). */
export const words = [
  "deny",
  "allow",
  "tools/a",
  "tools/b",
  "tools/c",
  "Tools/a",
  "a%b",
  "a_b",
  "c\\d",
  "",
  "ünï",
  "🎼",
  "\uffee",
  'q"q',
] as const;
export const numbers = [0, 1, 2, 3, 60_000, 99_999_999_999, -5] as const;
const patterns = [
  "%",
  "tools/%",
  "%a",
  "_",
  "t__ls/_",
  "a\\%b",
  "a\\_b",
  "%\\\\%",
  "",
  "%%",
  "Ü%",
  "ünï",
  "_%_",
] as const;

export const epoch = Date.UTC(2026, 3, 13);
/** Instants that rows are at, and that ranges and buckets begin and end at, and their neighbours. */
export const instants: readonly number[] = [0, 1, 5, 59, 60, 300, 3_600, 7_200, 86_400, 172_800].flatMap((seconds) =>
  [-1, 0, 1].map((ms) => epoch + seconds * 1000 + ms),
);

const text = (value: string): string => `"${value.replace(/(["\\])/g, "\\$1")}"`;

function valueText(field: Field, value: string | number | boolean): string {
  if (field.kind === "text") return text(String(value));
  if (field.kind === "timestamp") return new Date(Number(value)).toISOString();
  return String(value);
}

function wantedText(wanted: Wanted): string {
  switch (wanted.kind) {
    case "and":
    case "or":
      return `(${wanted.of.map(wantedText).join(wanted.kind === "and" ? " AND " : " or ")})`;
    case "not":
      return `NOT ${wantedText(wanted.of)}`;
    case "compare":
      return `${wanted.field.name} ${wanted.op} ${valueText(wanted.field, wanted.value)}`;
    case "in":
      return `${wanted.field.name} IN (${wanted.values.map((value) => valueText(wanted.field, value)).join(", ")})`;
    case "like":
      return `${wanted.field.name} LIKE ${text(wanted.pattern)}`;
    case "exists":
      return `EXISTS ${wanted.field.name}`;
    default:
      throw new Error("no such condition");
  }
}

export function askText(ask: Ask): string {
  return [
    `FIND ${ask.subject}`,
    ...(ask.where === null ? [] : [`WHERE ${wantedText(ask.where)}`]),
    ...(ask.bucket === null ? [] : [`BUCKET BY ${ask.bucket}`]),
    ...(ask.top === null ? [] : [`TOP ${ask.top.count} BY ${ask.top.field.name}`]),
    ...(ask.since === null ? [] : [`SINCE ${ask.since.text}`]),
  ].join(" ");
}

const fieldsOf = (subject: SubjectName): Field[] => [
  ...columns.values(),
  ...attributesOf(subjects.get(subject)!).values(),
];

function valueOf(field: Field): fc.Arbitrary<string | number | boolean> {
  switch (field.kind) {
    case "text":
      return fc.constantFrom(...words, "mc.policy.decision", "mc.execution.finished");
    case "boolean":
      return fc.boolean();
    case "timestamp":
      return fc.constantFrom(...instants);
    case "integer":
    case "duration":
      return fc.constantFrom(...numbers);
    default:
      throw new Error("no such kind");
  }
}

function testOf(field: Field): fc.Arbitrary<Wanted> {
  const compare = fc.record({
    kind: fc.constant("compare" as const),
    field: fc.constant(field),
    op: field.kind === "boolean" ? fc.constantFrom("=", "!=") : fc.constantFrom("=", "!=", "<", "<=", ">", ">="),
    value: valueOf(field),
  });
  const among = fc.record({
    kind: fc.constant("in" as const),
    field: fc.constant(field),
    values: fc.array(valueOf(field), { minLength: 1, maxLength: 5 }),
  });
  const exists = fc.constant({ kind: "exists" as const, field });
  if (field.kind !== "text") return fc.oneof(compare, among, exists);
  const like = fc.record({
    kind: fc.constant("like" as const),
    field: fc.constant(field),
    pattern: fc.constantFrom(...patterns),
  });
  return fc.oneof(compare, among, exists, like);
}

function wantedOf(fields: readonly Field[]): fc.Arbitrary<Wanted> {
  const test = fc.constantFrom(...fields).chain(testOf);
  return fc.letrec<{ wanted: Wanted }>((tie) => ({
    wanted: fc.oneof(
      { maxDepth: 3, depthSize: "small" },
      test,
      fc.record({ kind: fc.constant("not" as const), of: tie("wanted") }),
      fc.record({
        kind: fc.constantFrom("and" as const, "or" as const),
        of: fc.array(tie("wanted"), { minLength: 2, maxLength: 3 }),
      }),
    ),
  })).wanted;
}

const spans = [
  { text: "1ms", ms: 1 },
  { text: "1m", ms: 60_000 },
  { text: "61m", ms: 3_660_000 },
  { text: "1h", ms: 3_600_000 },
  { text: "25h", ms: 90_000_000 },
  { text: "2d", ms: 172_800_000 },
  { text: "400d", ms: 34_560_000_000 },
] as const;
/** Per bucket, spans whose answers stay small enough to compare thousands of. */
const spansOf = { "1m": spans.slice(0, 4), "5m": spans.slice(0, 6), "1h": spans.slice(0, 6), "1d": spans } as const;

export const asks: fc.Arbitrary<Ask> = fc
  .record({
    subject: fc.constantFrom(...subjectNames),
    bucket: fc.option(fc.constantFrom("1m" as const, "5m" as const, "1h" as const, "1d" as const), { freq: 3 }),
  })
  .chain(({ subject, bucket }) =>
    fc.record({
      subject: fc.constant(subject),
      bucket: fc.constant(bucket),
      where: fc.option(wantedOf(fieldsOf(subject)), { freq: 3 }),
      top: fc.option(
        fc.record({
          count: fc.constantFrom(1, 2, 3, 10),
          field: fc.constantFrom(...fieldsOf(subject).filter(({ groupable }) => groupable)),
        }),
        { freq: 3 },
      ),
      since: fc.option(fc.constantFrom(...(bucket === null ? spans : spansOf[bucket])), { freq: 5 }),
    }),
  );

/** The fields that rows of counts are kept by. */
const keptFields = ["type", "outcome", "package"].map((name) => columns.get(name)!);
const longSpans = [...spans, { text: "130m", ms: 7_800_000 }, { text: "51h", ms: 183_600_000 }, { text: "4d", ms: 345_600_000 }] as const; // prettier-ignore

/** Questions in groups that rows of counts can answer. */
export const keptAsks: fc.Arbitrary<Ask> = fc
  .constantFrom("5m" as const, "5m" as const, "1h" as const, "1d" as const, null)
  .chain((bucket) => {
    const top = fc.record({ count: fc.constantFrom(1, 2, 3, 10), field: fc.constantFrom(...keptFields) });
    const most = bucket === "5m" ? 200_000_000 : Infinity;
    return fc.record({
      subject: fc.constantFrom(...subjectNames, "events" as const, "decisions" as const),
      bucket: fc.constant(bucket),
      where: fc.option(wantedOf(keptFields), { freq: 2 }),
      top: bucket === null ? top : fc.option(top, { freq: 4 }),
      since: fc.option(
        fc.constantFrom(
          ...longSpans.filter(({ ms }) => ms > 60_000 && ms < Math.min(most, bucket === "1h" ? 4e8 : 1e12)),
        ),
        { freq: 8 },
      ),
    });
  });

/** Words of the language and its neighbours, for texts that are nearly queries. */
export const tokens = [
  "FIND", "find", "events", "executions", "WHERE", "BUCKET BY", "BUCKET", "BY", "TOP", "K", "LIMIT", "SINCE", "AND", "OR", "NOT", "IN", "LIKE",
  "EXISTS", "outcome", "package", "units", "attrs.exit_code", "attrs.", "duration_ms", "occurred_at", "tenant_id", "__proto__", "=", "!=", "<", "<=",
  "==", "(", ")", ",", ";", '"', '"deny"', '"a%"', String.raw`"\\"`, "'x'", "1", "-1", "1e309", "99999999999", "5m", "1h", "0m", "24h", "400d",
  "2026-04-13", "2026-04-13T16:00:00Z", "true", "NULL", "\n", "\t", "\u00a0", "\u200f", "\0", "\ud83c", "🎼", "--", "$1", "\\",
] as const; // prettier-ignore

/** Texts of random questions with something cut out or put in, up to three times. */
export const editedTexts: fc.Arbitrary<string> = fc
  .tuple(
    asks,
    fc.array(
      fc.record({
        at: fc.nat(),
        length: fc.nat(12),
        insert: fc.oneof(fc.constant(""), fc.constantFrom(...tokens), anyText(4)),
      }),
      { minLength: 1, maxLength: 3 },
    ),
  )
  .map(([ask, edits]) =>
    edits.reduce((text, { at, length, insert }) => {
      const start = at % (text.length + 1);
      return text.slice(0, start) + insert + text.slice(start + length);
    }, askText(ask)),
  );

/** One value in six is missing, and the first of a list is by far the most frequent. */
const skewed = <T>(values: readonly T[]): fc.Arbitrary<T | null> =>
  fc.oneof(
    { weight: 2, arbitrary: fc.constant(values[0]!) },
    { weight: 3, arbitrary: fc.constantFrom(...values) },
    { weight: 1, arbitrary: fc.constant(null) },
  );

function rowsOfTypes(): fc.Arbitrary<Omit<Parameters<typeof rowOf>[2], "logged_at">> {
  return fc.constantFrom(...subjects.get("events")!).chain((type) => {
    const kinds = { text: skewed(words), integer: skewed(numbers), duration: skewed(numbers), boolean: skewed([true, false]), timestamp: skewed(instants.map((at) => new Date(at).toISOString())) } as const; // prettier-ignore
    const attributes = fc.record(
      Object.fromEntries(
        [...attributesOf([type])].map(([name, { kind }]) => [name.replace("attrs.", ""), kinds[kind]]),
      ),
      { requiredKeys: [] },
    );
    const word = skewed(words);
    return fc.record({
      type: fc.constant(type),
      occurred_at: fc.constantFrom(...instants).map((at) => new Date(at).toISOString()),
      source: fc.constantFrom(...words),
      principal: word,
      execution_id: word,
      package: word,
      version: word,
      channel: word,
      outcome: word,
      rule: word,
      action: word,
      units: skewed(numbers),
      duration_ms: skewed(numbers),
      attributes,
    });
  });
}

/** `logged_at` never decreases with `seq`, and several rows share each instant. */
export function rowsOf(
  tenantId: string,
  seed: number,
  count: number,
  at: fc.Arbitrary<number> = fc.constantFrom(...instants),
): EventColumns[] {
  const parts = fc.sample(rowsOfTypes(), { seed, numRuns: count });
  const times = fc.sample(at, { seed, numRuns: count }).sort((left, right) => left - right);
  return parts.map((part, seq) => rowOf(tenantId, seq, { ...part, logged_at: new Date(times[seq]!).toISOString() }));
}
