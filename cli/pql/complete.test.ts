// Completion: at each place what the grammar takes there, and nothing that leads out of it.

import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parsePql } from "../../shared/pql/parse.ts";
import { planQuery } from "../../shared/pql/plan.ts";
import { PqlError } from "../../shared/pql/pql-error.ts";
import { complete, type SeenValues } from "./complete.ts";
import { ValueMemory } from "./values.ts";
import { quoted, vocabulary } from "./vocabulary.ts";

const seen: SeenValues = () => ['"tools/a"', '"tools/b"'];
const optionsAt = (text: string): readonly string[] => complete(text, vocabulary, seen).options;
const completed = (text: string): string[] => {
  const { from, options } = complete(text, vocabulary, seen);
  return options.map((option) => text.slice(0, from) + option);
};

describe("at each place", () => {
  test.each<[string, readonly string[]]>([
    ["", ["FIND"]],
    ["f", ["FIND"]],
    ["FIND ", vocabulary.subjects],
    ["find ex", ["executions"]],
    ["FIND executions ", ["WHERE", "BUCKET BY", "TOP", "SINCE"]],
    ["FIND executions s", ["SINCE"]],
    ["FIND executions BUCKET ", ["BY"]],
    ["FIND executions BUCKET BY ", ["1m", "5m", "1h", "1d"]],
    ["FIND executions BUCKET BY 5m ", ["TOP", "SINCE"]],
    ["FIND executions TOP ", ["5", "10", "20", "K"]],
    ["FIND executions TOP 5 ", ["BY"]],
    ["FIND executions TOP K package ", ["LIMIT"]],
    ["FIND executions TOP 5 BY package ", ["SINCE"]],
    ["FIND executions SINCE ", ["15m", "1h", "24h", "7d", "30d"]],
    ["FIND executions SINCE 1h ", []],
    ["FIND executions WHERE outcome ", ["=", "!=", "<", "<=", ">", ">=", "IN", "LIKE", "EXISTS"]],
    ["FIND executions WHERE outcome = ", ['"succeeded"', '"failed"', '"expired"', '"tools/a"', '"tools/b"']],
    ['FIND executions WHERE outcome = "f', ['"failed"']],
    ['FIND executions WHERE attrs.outcome = "s', ['"succeeded"']],
    ["FIND entitlements WHERE attrs.allowed = ", ["true", "false"]],
    ['FIND executions WHERE outcome IN ("failed", "e', ['"expired"']],
    ['FIND executions WHERE outcome IN ("failed" ', [",", ")"]],
    ['FIND executions WHERE outcome = "failed" ', ["AND", "OR", "BUCKET BY", "TOP", "SINCE"]],
    ['FIND executions WHERE (outcome = "failed" ', ["AND", "OR", ")"]],
    ['FIND executions WHERE (outcome = "failed") ', ["AND", "OR", "BUCKET BY", "TOP", "SINCE"]],
    ["FIND events WHERE channel = ", ['"stable"', '"canary"', '"tools/a"', '"tools/b"']],
    ["FIND decisions WHERE pack", ["package"]],
    ["FIND decisions WHERE attrs.pol", ["attrs.policy_sha256"]],
    ['FIND decisions WHERE package = "tools/', ['"tools/a"', '"tools/b"']],
    ["FIND decisions WHERE duration_ms > ", []],
    // A keyword inside of a string is none, and what is no query has no next word.
    ['FIND decisions WHERE rule = "x WHERE ', []],
    ["SELECT ", []],
    ["FIND executions SINCE 1h WHERE ", []],
    ["FIND executions WHERE outcome ~ ", []],
  ])("%s is followed by %j", (text, options) => {
    expect(optionsAt(text)).toEqual(options);
  });

  test("groups are made of fields that can be grouped by, conditions of any", () => {
    expect(optionsAt("FIND executions TOP 5 BY ")).not.toContain("logged_at");
    expect(optionsAt("FIND executions WHERE ")).toContain("logged_at");
    expect(optionsAt("FIND executions WHERE ").slice(-3)).toEqual(["NOT", "EXISTS", "("]);
    expect(optionsAt("FIND executions TOP 5 BY ")).toContain("attrs.exit_code");
  });

  test("a tenant's own values are asked for where a field has them, and only there", () => {
    const wanted = (text: string) => complete(text, vocabulary, seen).wanted;
    expect(wanted('FIND decisions WHERE package = "')).toEqual({ subject: "decisions", field: "package" });
    expect(wanted("FIND decisions WHERE rule IN (")).toEqual({ subject: "decisions", field: "rule" });
    for (const text of [
      "FIND executions WHERE outcome = ",
      "FIND events WHERE units = ",
      "FIND events WHERE event_id = ",
      "FIND events ",
    ]) {
      expect(wanted(text)).toBeNull();
    }
  });
});

/** What a person would write where nothing is offered. */
const literals = { text: '"x"', integer: "1", duration: "5s", boolean: "true", timestamp: "2026-04-13" } as const;

function refusalOf(text: string): string | null {
  try {
    planQuery(parsePql(text), text, Date.UTC(2026, 3, 13));
    return null;
  } catch (error) {
    if (error instanceof PqlError) return error.message;
    throw error;
  }
}

test("a query that is made of what is offered, word by word, is one that the parser and the planner take", () => {
  let ended = 0;
  fc.assert(
    fc.property(fc.array(fc.nat(), { minLength: 1, maxLength: 40 }), (choices) => {
      let text = "";
      let field: string | null = null;
      for (const choice of choices) {
        const { options } = complete(text, vocabulary, seen);
        const subject = /^FIND (\w+)/.exec(text)?.[1] ?? "";
        const kind = vocabulary.fieldsOf(subject).find(({ name }) => name === field)?.kind;
        const literal = / (?:[=<>(,]|!=|<=|>=) $/.test(text) && kind !== undefined ? literals[kind] : null;
        const next = options[choice % Math.max(1, options.length)] ?? literal;
        if (next === null) break;
        if (vocabulary.fieldsOf(subject).some(({ name }) => name === next)) field = next;
        text += `${next} `;
      }
      const refusal = refusalOf(text);
      if (refusal === null) ended += 1;
      // Cut off in the middle, or beyond a limit of the whole.
      expect([text, refusal ?? "ends too early"]).toEqual([
        text,
        expect.stringMatching(/ends too early|would have \d+ cells|deep/),
      ]);
    }),
    { numRuns: 2_000, seed: 1221 },
  );
  expect(ended).toBeGreaterThan(200);
});

test("every example of the language's page is offered, word by word", () => {
  const page = readFileSync(new URL("../../docs/pql/LANGUAGE.md", import.meta.url), "utf8");
  const examples = [...page.matchAll(/^```pql\n([^]*?)\n```$/gm)].map(([, text]) => text!);
  expect(examples.length).toBeGreaterThan(15);
  for (const example of examples) {
    for (const match of example.matchAll(/[A-Za-z_][\w.]*/g)) {
      const before = example.slice(0, match.index);
      const isInString = (before.match(/"/g) ?? []).length % 2 === 1;
      const word = match[0];
      // The second word of BUCKET BY comes with the first.
      if (isInString || /\d$/.test(before) || ["true", "false"].includes(word)) continue;
      const offered = optionsAt(before);
      const hit = offered.some((option) => option === word || option.split(" ")[0] === word);
      expect([before, word, hit]).toEqual([before, word, true]);
    }
  }
});

test("any text is completed without an error, and only ever by what begins with what is there", () => {
  const pieces = fc.constantFrom(
    "FIND",
    "executions",
    "WHERE",
    "(",
    ")",
    "=",
    "IN",
    '"',
    "\\",
    "attrs.",
    "NOT",
    "BY",
    "TOP",
    "5",
    "\n",
    " ",
    ",",
    ";",
    "é",
  );
  fc.assert(
    fc.property(fc.array(pieces, { maxLength: 20 }), (parts) => {
      const text = parts.join("");
      const { from, options } = complete(text, vocabulary, seen);
      const written = text.slice(from).toLowerCase();
      expect(options.filter((option) => !option.toLowerCase().startsWith(written))).toEqual([]);
    }),
  );
});

test("completing keeps what stands before the word", () => {
  expect(completed("FIND decisions WHERE out")).toEqual(["FIND decisions WHERE outcome"]);
});

describe("the memory of values", () => {
  const covers = { from: "", to: "" };
  const wanted = { subject: "decisions", field: "package" };

  test("learns from groups and from rows, by subject and field, and asks once", () => {
    const memory = new ValueMemory(vocabulary);
    memory.learn("find Decisions TOP 2 BY package", {
      kind: "groups",
      covers,
      complete_to: null,
      field: "package",
      bucket_ms: null,
      groups: [
        { name: "tools/a", total: 1 },
        { name: null, total: 1 },
        { name: 'say "hi"\\', total: 1 },
      ],
      other: 0,
      total: 3,
      buckets: null,
    });
    memory.learn("FIND decisions", {
      kind: "rows",
      covers,
      complete_to: null,
      columns: ["package", "units"],
      rows: [{ package: "tools/b", units: 5, rule: null, attrs: "{}" }],
      next_cursor: null,
    });
    expect(memory.seen(wanted)).toEqual(['"tools/a"', String.raw`"say \"hi\"\\"`, '"tools/b"']);
    expect(memory.seen({ ...wanted, subject: "events" })).toEqual([]);
    expect([memory.mayAsk(wanted), memory.mayAsk(wanted)]).toEqual([true, false]);
  });

  test("holds two hundred values of a field, and none that a query cannot hold", () => {
    const memory = new ValueMemory(vocabulary);
    const rows = Array.from({ length: 300 }, (_, at) => ({ package: at === 299 ? "a\nb" : `p/${at}` }));
    memory.learn("FIND decisions", {
      kind: "rows",
      covers,
      complete_to: null,
      columns: ["package"],
      rows,
      next_cursor: null,
    });
    expect(memory.seen(wanted)).toHaveLength(200);
    expect(memory.seen(wanted).at(-1)).toBe('"p/298"');
    expect(parsePql(`FIND decisions WHERE package = ${quoted('a"\\b')}`)).toBeDefined();
  });
});
