// The parser and the planner under what people and machines may type: no text crashes them, and each refusal says where.

import fc from "fast-check";
import { expect, test } from "vitest";
import { parsePql } from "../../shared/pql/parse.ts";
import { planQuery } from "../../shared/pql/plan.ts";
import { PqlError } from "../../shared/pql/pql-error.ts";
import { asks, askText, editedTexts, tokens } from "../contract/pql-generator.ts";
import { anyText } from "../support/any-text.ts";

const deep = process.env["MAESTRO_DEEP"] === "1";
const runs = deep ? { numRuns: 350_000 } : { numRuns: 600, seed: 1921 };
const now = Date.UTC(2026, 3, 13, 16, 20);

/**
 * "accepted" where the text is a query that can be run, "refused" where a PqlError points into it and says why in a
 * sentence; anything else is thrown on, or told.
 */
function outcomeOf(text: string): string {
  try {
    planQuery(parsePql(text), text, now);
    return "accepted";
  } catch (error) {
    if (!(error instanceof PqlError)) throw error;
    const line = text.split("\n")[error.line - 1];
    if (line === undefined || error.column < 1 || error.column > line.length + 1) return "refused outside of the text";
    return error.message.length > 0 && error.message.length < 200 ? "refused" : `refused with ${error.message}`;
  }
}

test("random questions are queries, as they are written and with other spaces and cases", () => {
  fc.assert(
    fc.property(asks, fc.constantFrom(" ", "\n", "\t ", "  "), (ask, space) => {
      const text = askText(ask);
      expect([text, outcomeOf(text)]).toEqual([text, "accepted"]);
      // Spaces inside of strings are values: only a text without any may be respaced.
      const respaced = text.includes('"') ? text : text.replaceAll(" ", space);
      expect([respaced, outcomeOf(respaced)]).toEqual([respaced, "accepted"]);
    }),
    runs,
  );
});

test("random questions with something cut, doubled, swapped or put in are accepted or refused, and nothing else", () => {
  fc.assert(
    fc.property(editedTexts, (text) => {
      expect(outcomeOf(text)).toMatch(/^(?:accepted|refused)$/);
    }),
    runs,
  );
});

test("random sequences of tokens, and of characters, are accepted or refused, and nothing else", () => {
  const words = fc
    .array(fc.constantFrom(...tokens), { maxLength: 40 })
    .chain((list) => fc.constantFrom(list.join(" "), list.join("")));
  const repeated = fc
    .tuple(fc.constantFrom(...tokens), fc.nat(3_000))
    .map(([token, count]) => `FIND events WHERE ${`${token} `.repeat(count)}`);
  fc.assert(
    fc.property(
      fc.oneof(
        { weight: 8, arbitrary: words },
        { weight: 1, arbitrary: repeated },
        { weight: 4, arbitrary: anyText(200) },
      ),
      (text) => {
        expect(outcomeOf(text)).toMatch(/^(?:accepted|refused)$/);
      },
    ),
    runs,
  );
});
