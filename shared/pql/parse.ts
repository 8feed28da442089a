// PQL text to tree: guards, then the generated parser, then an error that a person can act on. Called by engine.ts.

import { predicateNodes, type Query } from "./ast.ts";
import { guardText } from "./guard.ts";
import { limits } from "./limits.ts";
import { parse, SyntaxError as PegSyntaxError, type Expectation } from "./parser.generated.js";
import { nearest, PqlError, refuserOf, type Refuse } from "./pql-error.ts";

/** Throws PqlError for what is not PQL 1.2, whatever the text. */
export function parsePql(text: string): Query {
  guardText(text);
  const refuse = refuserOf(text);
  const query = parseGuarded(text, refuse);
  if (query.where !== null) {
    const nodes = predicateNodes(query.where.predicate);
    if (nodes > limits.predicateNodesMax) {
      refuse(query.where.at, `The condition has ${nodes} parts; up to ${limits.predicateNodesMax} are taken.`, {
        suggestion: "Comparisons of one field with many values are one IN.",
      });
    }
  }
  return query;
}

function parseGuarded(text: string, refuse: Refuse): Query {
  try {
    return parse(text, { refuse });
  } catch (error) {
    if (error instanceof PqlError || !(error instanceof PegSyntaxError)) throw error;
    return refuseSyntax(text, refuse, error.location.start.offset, error.expected ?? []);
  }
}

function refuseSyntax(text: string, refuse: Refuse, at: number, expectations: readonly Expectation[]): never {
  const expected = [...new Set(expectations.map(nameOf))].filter((name) => name !== "a space").sort();
  const found = /^(?:[A-Za-z0-9_]+|.)/su.exec(text.slice(at))?.[0] ?? "";
  const where = found === "" ? "The query ends too early." : `\`${found.slice(0, 80)}\` was not expected here.`;
  refuse(at, where, { expected, suggestion: adviceOn(found, expected) });
}

/** Words of other languages, and what takes their place. */
const foreign: ReadonlyMap<string, string> = new Map([
  ["select", "A query begins with FIND, like FIND executions."],
  ["from", "The subject follows FIND, like FIND executions."],
  ["limit", "Write TOP K field LIMIT n; rows come in pages of their own."],
  ["group", "Write TOP 10 BY field, or BUCKET BY 1h."],
  ["order", "Rows come newest first, groups largest first."],
  ["join", "A query reads one subject; there are no joins."],
  ["union", "A query reads one subject; use OR."],
  ["last", "Write SINCE 24h."],
  ["count", "TOP and BUCKET BY count; there are no functions."],
  [";", "One query, without a semicolon."],
  ["&", "Write AND."],
  ["|", "Write OR."],
  ["-", "There are no comments."],
  ["'", "Strings take double quotes."],
  [")", "There is no parenthesis to close."],
]);

function adviceOn(found: string, expected: readonly string[]): string | null {
  if (found === "") return null;
  if (found === '"' && expected.includes("a field")) return "A field stands without quotes.";
  const keyword = /^[A-Za-z]/.test(found)
    ? nearest(
        found,
        expected.filter((name) => /^[A-Z]/.test(name)),
      )
    : null;
  if (keyword !== null) return `Did you mean \`${keyword}\`?`;
  return foreign.get(found.toLowerCase()) ?? null;
}

function nameOf(expectation: Expectation): string {
  if (expectation.type === "literal") return `\`${expectation.text}\``;
  if (expectation.type === "other") return expectation.description;
  return expectation.type === "end" ? "the end of the query" : "a character";
}
