// Every input that is known to hurt a query language, with what becomes of it here.

import { expect, test } from "vitest";
import { limits } from "./limits.ts";
import { parsePql } from "./parse.ts";
import { planQuery, type Plan } from "./plan.ts";
import { PqlError } from "./pql-error.ts";

const now = Date.UTC(2026, 3, 13, 16, 20);
const plan = (text: string): Plan => planQuery(parsePql(text), text, now);

function refusal(text: string): PqlError {
  try {
    plan(text);
  } catch (error) {
    if (error instanceof PqlError) return error;
    throw error;
  }
  throw new Error(`not refused: ${text.slice(0, 100)}`);
}

const deep = (count: number, open: string, close: string): string =>
  `FIND events WHERE ${open.repeat(count)}units = 1${close.repeat(count)}`;

test.each([
  ["parentheses", "(", ")"],
  ["NOTs", "NOT ", ""],
  ["NOTs in parentheses", "NOT(", ")"],
  ["parentheses and lower-case nots", "(not ", ")"],
])("20,000 %s are refused by length, and as many as fit in the length by depth", (_, open, close) => {
  expect(refusal(deep(20_000, open, close)).message).toMatch(/over 16384 bytes/);
  expect(refusal(deep(1_500, open, close)).message).toBe("Parentheses and NOTs may be 32 deep.");
});

test("32 levels are taken, 33 are not", () => {
  expect(plan(deep(32, "(", ")")).condition).toMatchObject({ kind: "compare" });
  expect(refusal(deep(33, "(", ")")).message).toBe("Parentheses and NOTs may be 32 deep.");
  expect(plan(deep(32, "NOT ", "")).condition).toMatchObject({ negated: false });
  expect(refusal(deep(33, "NOT ", "")).column).toBe("FIND events WHERE ".length + 32 * 4 + 1);
  expect(plan(deep(16, "NOT(", ")")).condition).toMatchObject({ negated: false });
  expect(refusal(deep(17, "NOT(", ")")).message).toBe("Parentheses and NOTs may be 32 deep.");
});

test("parentheses and NOTs inside of strings do not nest", () => {
  expect(plan(`FIND events WHERE rule = "${"( NOT ".repeat(100)}"`).condition).toMatchObject({ kind: "compare" });
});

test("unopened parentheses neither crash nor make room for deeper ones", () => {
  expect(refusal(`FIND events WHERE ${")".repeat(1_000)}units = 1`)).toBeInstanceOf(PqlError);
  expect(refusal(`FIND events WHERE ${")".repeat(100)}${"(".repeat(100)}`).message).toMatch(/32 deep/);
});

test("64 parts of a condition are taken, and OR × 5,000 is not", () => {
  const joined = (count: number): string => `FIND events WHERE ${Array(count).fill("units=1").join(" OR ")}`;
  expect(plan(joined(63)).condition).toMatchObject({ kind: "or" });
  expect(refusal(joined(64)).message).toBe("The condition has 65 parts; up to 64 are taken.");
  expect(refusal(joined(1_200)).suggestion).toMatch(/IN/);
  expect(refusal(joined(5_000)).message).toMatch(/over 16384 bytes/);
});

test("IN takes 1,000 values, not 1,001, not 100,000, and not none", () => {
  const list = (count: number): string => `FIND events WHERE units IN (${Array(count).fill("1").join(",")})`;
  expect(plan(list(1_000)).condition).toMatchObject({ kind: "in" });
  expect(refusal(list(1_001)).message).toMatch(/1 to 1,000 values, and here are 1001/);
  expect(refusal(list(100_000)).message).toMatch(/over 16384 bytes/);
  expect(refusal("FIND events WHERE units IN ()").message).toMatch(/1 to 1,000/);
});

test.each([
  'FIND events WHERE package =~ "a.*"',
  'FIND events WHERE package ~ "a"',
  'FIND events WHERE package !~ "a"',
])("regular expressions are not there: %s", (text) => {
  expect(refusal(text).suggestion).toBe("There are no regular expressions; LIKE takes % and _.");
});

test("NUL and other control characters are refused, in a string and outside", () => {
  expect(refusal('FIND events WHERE rule = "a\0b"').message).toBe("NUL does not belong into a string.");
  expect(refusal("FIND events\0").message).toMatch(/^NUL does not belong/);
  expect(refusal('FIND events WHERE rule = "a\u001bb"').column).toBe(28);
  expect(refusal('FIND events WHERE rule = "a\nb"').message).toBe("The string is not closed.");
});

test("half a surrogate pair is refused, in a string and outside, first half and second", () => {
  for (const half of ["\ud83c", "\udfbc"]) {
    expect(refusal(`FIND events WHERE rule = "a${half}b"`)).toMatchObject({
      message: "Half of a surrogate pair is not a character.",
      column: 28,
    });
    expect(refusal(`FIND ${half}`).column).toBe(6);
  }
});

test.each(["1e309", "-1e309", "1.5", ".5", "0x10", "1_000", "Infinity", "NaN", "--1", "+1"])(
  "%s is not a number",
  (text) => {
    expect(refusal(`FIND events WHERE units = ${text}`)).toBeInstanceOf(PqlError);
  },
);

test("integers go as far as both sides can count exactly", () => {
  expect(plan("FIND events WHERE units = 99999999999").condition).toMatchObject({ value: 99_999_999_999 });
  expect(refusal("FIND events WHERE units = 9007199254740992").message).toMatch(/beyond 9007199254740991/);
  expect(refusal(`FIND events WHERE units = ${"9".repeat(5_000)}`).message.length).toBeLessThan(100);
});

test.each(["0m", "0ms", "2m", "7m", "60s", "60m", "24h", "90d", "3d", "-5m", "99999999999999999999d"])(
  "BUCKET BY %s is refused",
  (bucket) => {
    expect(refusal(`FIND events BUCKET BY ${bucket}`).column).toBe(23);
  },
);

test.each(["9e15m", "0h", "401d", "9007199254740991d", "-1h", "1w", "1.5h"])("SINCE %s is refused", (since) => {
  expect(refusal(`FIND events SINCE ${since}`).column).toBe(19);
});

test("more cells than a reader can use are refused, with what would fit", () => {
  const error = refusal("FIND events BUCKET BY 1m TOP 100 BY package SINCE 30d");
  expect(error.message).toBe("The answer would have 4363301 cells; up to 50000 are given.");
  expect(error.suggestion).toBe("BUCKET BY 1d, or SINCE 8h");
  expect(refusal("FIND events BUCKET BY 1m SINCE 40d").suggestion).toBe("BUCKET BY 5m, or SINCE 34d");
  expect(plan("FIND events BUCKET BY 5m SINCE 40d")).toMatchObject({ template: "buckets" });
  expect(plan("FIND events BUCKET BY 1d TOP 100 BY package SINCE 400d")).toMatchObject({ top: 100 });
});

test.each(["0", "-1", "101", "1000", "99999999999", "1e9"])("TOP %s is refused", (count) => {
  expect(refusal(`FIND events TOP ${count} BY package`).column).toBe(17);
  expect(refusal(`FIND events TOP K package LIMIT ${count}`).column).toBe(33);
});

test.each(["__proto__", "constructor", "toString", "hasOwnProperty", "attrs.__proto__", "attrs.constructor", "attrs"])(
  "%s is not a field, wherever a field may stand",
  (name) => {
    for (const text of [`WHERE ${name} = "x"`, `WHERE EXISTS ${name}`, `TOP 5 BY ${name}`]) {
      expect(refusal(`FIND events ${text}`).message).toMatch(/^events have no (?:field|attribute)/);
    }
  },
);

test.each(["__proto__", "constructor", "audit_events", "execution", "événements"])("%s is not a subject", (name) => {
  expect(refusal(`FIND ${name}`)).toBeInstanceOf(PqlError);
});

test.each([
  'tenant_id = "00000000-0000-4000-8000-000000000000"',
  'package = "a" OR tenant_id != "x"',
  "EXISTS tenant_id",
  'tenant = "acme"',
])("a tenant is not something that a query can name: %s", (condition) => {
  expect(refusal(`FIND events WHERE ${condition}`).message).toBe("A query reads its own tenant, always and only.");
});

test.each([
  `attrs."a'b"`,
  `attrs.'a'`,
  `attrs["a"]`,
  "attrs.a'b",
  "attrs.",
  "attrs.a.b",
  "attrs.a->b",
  'attrs."; DROP --',
])("%s is not an attribute", (name) => {
  expect(refusal(`FIND events WHERE ${name} = "x"`)).toBeInstanceOf(PqlError);
});

test.each([
  ['FIND events WHERE rule = "; DROP --', "The string is not closed."],
  ["FIND events WHERE rule = $1", "`$` was not expected here."],
  ["FIND events WHERE rule = ?", "`?` was not expected here."],
  [String.raw`FIND events WHERE rule = "\u0027"`, 'A backslash may stand before " and \\ only.'],
  [String.raw`FIND events WHERE rule = "a\"`, "The string is not closed."],
  ['FIND events WHERE rule = "a\\', 'A backslash may stand before " and \\ only.'],
  ["FIND events -- comment", "`-` was not expected here."],
  ["FIND events /* comment */", "`/` was not expected here."],
])("text that would be code elsewhere is refused as text: %s", (text, message) => {
  expect(refusal(text).message).toBe(message);
});

test("a string that would be code elsewhere is a value like any other", () => {
  const text = `FIND events WHERE rule IN ("'; DROP TABLE audit_events; --", "$1", "%s", "x' OR '1'='1")`;
  expect(plan(text).condition).toMatchObject({
    values: ["'; DROP TABLE audit_events; --", "$1", "%s", "x' OR '1'='1"],
  });
});

test.each([
  ["Cyrillic Е in a keyword", "FIND \u0435vents", "U+0435 (\u0435) does not belong into a query outside of a string."],
  ["Greek Ν in FIND", "FI\u039dD events", "U+039D (\u039d) does not belong into a query outside of a string."],
  ["full-width letters", "\uff26IND events", "U+FF26 (\uff26) does not belong into a query outside of a string."],
  ["a no-break space", "FIND\u00a0events", "U+00A0 does not belong into a query outside of a string."],
  ["an ideographic space", "FIND\u3000events", "U+3000 does not belong into a query outside of a string."],
  ["a right-to-left mark", "FIND events\u200f", "U+200F does not belong into a query outside of a string."],
  [
    "a right-to-left override in a string",
    'FIND events WHERE rule = "\u202eyned"',
    "U+202E does not belong into a string.",
  ],
  ["a zero-width space in a string", 'FIND events WHERE rule = "a\u200bb"', "U+200B does not belong into a string."],
  ["a byte order mark", "\ufeffFIND events", "U+FEFF does not belong into a query outside of a string."],
  [
    "curly quotes",
    "FIND events WHERE rule = \u201cdeny\u201d",
    "U+201C (\u201c) does not belong into a query outside of a string.",
  ],
])("%s is refused by its name", (_, text, message) => {
  expect(refusal(text).message).toBe(message);
});

test.each([String.raw`"a\\"`, String.raw`"\\"`, String.raw`"a\\\\\\"`])(
  "LIKE %s, which ends in a lone backslash, is refused",
  (pattern) => {
    expect(refusal(`FIND events WHERE rule LIKE ${pattern}`).message).toBe("A LIKE pattern cannot end in a backslash.");
  },
);

test("LIKE may end in an escaped backslash, and is short", () => {
  expect(plan(String.raw`FIND events WHERE rule LIKE "a\\\\"`).condition).toMatchObject({ pattern: String.raw`a\\` });
  expect(refusal(`FIND events WHERE rule LIKE "${"%".repeat(limits.likePatternMax + 1)}"`).message).toMatch(
    /up to 256/,
  );
});

test("1 MB of query is refused by its length alone, and 16 KiB counts bytes", () => {
  expect(refusal(`FIND events WHERE rule = "${"a".repeat(1_048_576)}"`).message).toBe("The query is over 16384 bytes.");
  expect(refusal(`FIND events WHERE rule = "${"é".repeat(9_000)}"`).message).toBe("The query is over 16384 bytes.");
  expect(plan(`FIND events WHERE rule = "${"a".repeat(16_000)}"`).condition).toMatchObject({ kind: "compare" });
});

test("lower-case clauses are clauses, and duplicate ones are refused in any case", () => {
  expect(plan("find events where units = 1 bucket by 1h top 1 by package since 1d")).toMatchObject({
    template: "top_buckets",
  });
  expect(refusal("find events since 1d SINCE 1d").message).toBe("SINCE is given twice.");
});
