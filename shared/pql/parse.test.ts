import { describe, expect, test } from "vitest";
import type { Literal, Predicate } from "./ast.ts";
import { parsePql } from "./parse.ts";
import { PqlError } from "./pql-error.ts";

/** The error of a text that must be refused. */
function refusal(text: string): PqlError {
  try {
    parsePql(text);
  } catch (error) {
    if (error instanceof PqlError) return error;
    throw error;
  }
  throw new Error(`not refused: ${text.slice(0, 100)}`);
}

const where = (condition: string): Predicate => parsePql(`FIND events WHERE ${condition}`).where!.predicate;
const value = (literal: string): Literal => {
  const predicate = where(`units = ${literal}`);
  if (predicate.kind !== "compare") throw new Error("not a comparison");
  return predicate.value;
};
/** The tree without offsets, as nested lists. */
function shape(predicate: Predicate): unknown {
  if (predicate.kind === "not") return ["not", shape(predicate.of)];
  if ("of" in predicate) return [predicate.kind, ...predicate.of.map(shape)];
  return predicate.field.name;
}

describe("clauses", () => {
  test("FIND and a subject are a whole query", () => {
    expect(parsePql("FIND executions")).toEqual({
      subject: { name: "executions", at: 5 },
      where: null,
      bucket: null,
      top: null,
      since: null,
    });
  });

  test("all clauses stand together, in the order WHERE, BUCKET BY, TOP, SINCE", () => {
    const query = parsePql('FIND decisions WHERE outcome = "deny" BUCKET BY 5m TOP 10 BY package SINCE 7d');
    expect(query.where?.predicate).toMatchObject({ kind: "compare", op: "=", field: { name: "outcome" } });
    expect(query.bucket?.ms).toBe(300_000);
    expect(query.top).toMatchObject({ count: 10, field: { name: "package" } });
    expect(query.since?.ms).toBe(7 * 86_400_000);
  });

  test("TOP K field LIMIT n means what TOP n BY field means", () => {
    const prose = parsePql("FIND decisions TOP K package LIMIT 5");
    const canonical = parsePql("FIND decisions TOP 5 BY package");
    expect([prose.top?.count, prose.top?.field.name]).toEqual([canonical.top?.count, canonical.top?.field.name]);
  });

  test("keywords are of either case, and white space is spaces, tabs and line ends", () => {
    expect(parsePql("find\tevents\r\nwhere units=1\nbucket by 1h top 3 by package since 1d").top?.count).toBe(3);
    expect(parsePql('FIND events WHERE(units=1)AND(type="a")SINCE 1h').since?.ms).toBe(3_600_000);
  });

  test.each([
    ["FIND events TOP 5 BY package BUCKET BY 1h", "BUCKET BY goes before TOP."],
    ["FIND events SINCE 1h WHERE units = 1", "WHERE goes before SINCE."],
    ["FIND events BUCKET BY 1h SINCE 1h TOP 5 BY package", "TOP goes before SINCE."],
    ["FIND events WHERE units = 1 WHERE units = 2", "Join both conditions by AND."],
    ["FIND events SINCE 1h SINCE 2h", "Keep one SINCE."],
    ["FIND events bucket by 1h BUCKET BY 1h", "Keep one BUCKET BY."],
  ])("clauses out of order or given twice are refused with the way to write them: %s", (text, suggestion) => {
    expect(refusal(text).suggestion).toBe(suggestion);
  });
});

describe("conditions", () => {
  test("AND binds more tightly than OR, NOT more tightly than AND, and parentheses most", () => {
    expect(shape(where("NOT a = 1 AND b = 1 OR c = 1"))).toEqual(["or", ["and", ["not", "a"], "b"], "c"]);
    expect(shape(where("NOT (a = 1 AND (b = 1 OR c = 1))"))).toEqual(["not", ["and", "a", ["or", "b", "c"]]]);
    expect(shape(where("a = 1 OR b = 1 OR c = 1"))).toEqual(["or", "a", "b", "c"]);
  });

  test.each(["=", "!=", "<", "<=", ">", ">="])("%s compares a field with a value", (op) => {
    expect(where(`units ${op} 5`)).toMatchObject({ kind: "compare", op, value: { kind: "integer", value: 5 } });
    expect(where(`units${op}5`)).toMatchObject({ kind: "compare", op, value: { kind: "integer", value: 5 } });
  });

  test("IN, LIKE and EXISTS are conditions, and EXISTS may stand before its field or after it", () => {
    expect(where('package IN ("a", "b")')).toMatchObject({ kind: "in", values: [{ value: "a" }, { value: "b" }] });
    expect(where('package LIKE "a%"')).toMatchObject({ kind: "like", pattern: { value: "a%" } });
    expect(where("EXISTS attrs.rule")).toEqual({ kind: "exists", field: { name: "attrs.rule", at: 25 } });
    expect(where("attrs.rule EXISTS")).toMatchObject({ kind: "exists", field: { name: "attrs.rule" } });
    expect(shape(where("NOT EXISTS rule"))).toEqual(["not", "rule"]);
  });

  test("a field may begin like a keyword", () => {
    expect(where("order_id = 1 AND notes = 1 AND input = 1")).toMatchObject({ kind: "and" });
  });
});

describe("values", () => {
  test.each([
    ["0", 0],
    ["-0", 0],
    ["42", 42],
    ["-7", -7],
    ["99999999999", 99_999_999_999],
    ["9007199254740991", Number.MAX_SAFE_INTEGER],
  ])("%s is an integer", (text, number) => {
    expect(value(text)).toMatchObject({ kind: "integer", value: number });
  });

  test.each([
    ["250ms", 250],
    ["5s", 5_000],
    ["1m", 60_000],
    ["24h", 86_400_000],
    ["400d", 34_560_000_000],
  ])("%s is a duration of %i ms", (text, ms) => {
    expect(value(text)).toMatchObject({ kind: "duration", value: ms });
  });

  test.each([
    ["2026-04-13", "2026-04-13T00:00:00.000Z"],
    ["2026-04-13T16:05Z", "2026-04-13T16:05:00.000Z"],
    ["2026-04-13T16:05:09Z", "2026-04-13T16:05:09.000Z"],
    ["2026-04-13T16:05:09.5Z", "2026-04-13T16:05:09.500Z"],
    ["2024-02-29T23:59:59.999Z", "2024-02-29T23:59:59.999Z"],
  ])("%s is a timestamp", (text, iso) => {
    expect(value(text)).toMatchObject({ kind: "timestamp", value: Date.parse(iso) });
  });

  test.each(["2026-02-30", "2025-02-29", "2026-13-01", "2026-04-13T24:00Z", "2026-04-13T16:60Z", "1969-12-31"])(
    "%s is no time, and refused",
    (text) => {
      expect(refusal(`FIND events WHERE occurred_at > ${text}`).message).toContain("is not a time since 1970");
    },
  );

  test("true and false are booleans in either case", () => {
    expect([value("true"), value("FALSE")]).toMatchObject([
      { kind: "boolean", value: true },
      { kind: "boolean", value: false },
    ]);
  });

  test("a string holds any printable text, with a backslash before a double quote or a backslash", () => {
    expect(value('""')).toMatchObject({ kind: "text", value: "" });
    expect(value(String.raw`"say \"hi\", C:\\temp"`)).toMatchObject({ value: String.raw`say "hi", C:\temp` });
    expect(value(`"ünï 🎼 ' ; -- ) OR"`)).toMatchObject({ value: "ünï 🎼 ' ; -- ) OR" });
  });
});

describe("errors", () => {
  test.each([
    ["FIND events WHERE outcome = deny", 29, "Strings take double quotes.", 'Write "deny".'],
    ["FIND events WHERE outcome = 'deny'", 29, "Strings take double quotes.", 'Write "deny".'],
    ['FIND events WHERE outcome == "deny"', 27, "`==` is not an operator.", "Write =."],
    ['FIND events WHERE outcome <> "deny"', 27, "`<>` is not an operator.", "Write !=."],
    ['FIND events WERE outcome = "x"', 13, "`WERE` was not expected here.", "Did you mean `WHERE`?"],
    ['FIND events WHERE "outcome" = "x"', 19, '`"` was not expected here.', "A field stands without quotes."],
    [
      "FIND events LIMIT 5",
      13,
      "`LIMIT` was not expected here.",
      "Write TOP K field LIMIT n; rows come in pages of their own.",
    ],
    [
      "SELECT * FROM audit_events",
      1,
      "`SELECT` was not expected here.",
      "A query begins with FIND, like FIND executions.",
    ],
    ["FIND events WHERE a IS NULL", 21, "There is no IS.", "Write EXISTS field, or NOT EXISTS field."],
    ["FIND events WHERE a = NULL", 23, "NULL is not a value.", "Write EXISTS field, or NOT EXISTS field."],
    [
      'FIND events WHERE a NOT IN ("x")',
      21,
      "NOT stands before the field.",
      'Write NOT field IN (…), NOT field LIKE "…".',
    ],
    ["FIND events WHERE lower(a) = 1", 24, "There are no functions.", null],
    ["FIND events WHERE a = 1 && b = 2", 25, "`&` was not expected here.", "Write AND."],
    ["FIND events WHERE !a", 19, "`!` is not an operator here.", "Write NOT."],
    ["FIND events WHERE a = 1.5", 23, "1.5 is not a value.", "Numbers are whole; durations end in ms, s, m, h or d."],
    [
      "FIND events WHERE a = 2026-04-13T16:00+02:00",
      23,
      "2026-04-13T16:00+02:00 is not a value.",
      "Times are UTC and end in Z.",
    ],
    [
      "FIND events TOP ten BY package",
      17,
      "ten is not a number of groups.",
      "Write TOP 10 BY field, or TOP K field LIMIT 10.",
    ],
    ["FIND events BUCKET BY hour", 23, "hour is not a duration.", null],
    ["FIND events WHERE (a = 1", 25, "The query ends too early.", null],
    ["FIND events WHERE a = 1)", 24, "`)` was not expected here.", "There is no parenthesis to close."],
    ["FIND events; FIND events", 12, "`;` was not expected here.", "One query, without a semicolon."],
    ["FIND events WHERE a IN ()", 25, "IN takes 1 to 1,000 values.", null],
    ["", 1, "The query ends too early.", null],
  ])("%s", (text, column, message, suggestion) => {
    const error = refusal(text);
    expect([error.line, error.column, error.message, error.suggestion]).toEqual([1, column, message, suggestion]);
  });

  test("lines and columns count from 1, and what was expected is told in words", () => {
    const error = refusal("FIND events\nWHERE units = 1\n  AND ,");
    expect([error.line, error.column]).toEqual([3, 7]);
    expect(error.expected).toEqual(["EXISTS", "NOT", "`(`", "a field"]);
  });
});
