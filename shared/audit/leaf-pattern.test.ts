// Columns by an expression are those of the strict way through parser and schemas, for every type of event; and what an
// expression takes, that way takes.

import fc from "fast-check";
import { expect, test } from "vitest";
import { z } from "@hono/zod-openapi";
import { canonicalJson, eventColumns, eventTypes, loggedEnvelope, type EventType } from "../contract/events.ts";
import { isDeep } from "../../test/support/sampled.ts";
import { parseLeaf } from "./leaf.ts";
import { columnsByPattern, type LeafColumns } from "./leaf-pattern.ts";

const types = Object.keys(eventTypes) as EventType[];

function columnsByParsing(body: string): LeafColumns | null {
  const parsed = parseLeaf(body);
  return parsed.ok ? { ...eventColumns(parsed.event, parsed.attrs), source_seq: parsed.event.source_seq } : null;
}

const moment = fc
  .date({ min: new Date(0), max: new Date("9999-12-31T23:59:59.999Z"), noInvalidDate: true })
  .map((date) => date.toISOString());
const versions = fc.constantFrom("1.2.3", "0.0.1", "1.0.0-rc.1+b", "2.0.0-0");
const number = fc.oneof(
  { weight: 20, arbitrary: fc.integer({ min: 1, max: 100 }) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(0, -1, 300, 1.5, -0, 1e15, 999_999_999_999_999, Number.MAX_SAFE_INTEGER, 1e21),
  },
);
const texts = fc.constantFrom(
  ..."1.2.3 1.2 v1.2.3 tools/sbom stable ok execution.start 2026-02-30T00:00:00.000Z".split(" "),
  "",
  "\u2028",
  "\u007f",
  "\\",
  '"',
  "\n",
  "\ud800",
  "😀",
  "ü",
  "a".repeat(129),
  "\0",
);

/** Made once for each pattern, which most columns share: what makes one is slow. */
const textsOfPattern = new Map<string, fc.Arbitrary<string>>();
function matchingOf(pattern: RegExp): fc.Arbitrary<string> {
  const made = textsOfPattern.get(String(pattern)) ?? fc.stringMatching(pattern);
  textsOfPattern.set(String(pattern), made);
  return made;
}

/** Mostly what `schema` accepts: what it does not is as welcome. */
function near(schema: z.core.$ZodTypes): fc.Arbitrary<unknown> {
  const { def } = schema._zod;
  switch (def.type) {
    case "string": {
      const checks = [def, ...(def.checks ?? []).map((check) => check._zod.def)];
      const pattern = checks.flatMap((check) => ("pattern" in check ? [check.pattern as RegExp] : []))[0];
      const longest = Math.min(...checks.map((check) => ("maximum" in check ? Number(check.maximum) : Infinity)));
      const isRefined = checks.some((check) => "check" in check && check.check === "custom");
      const matching = matchingOf(pattern ?? /^[a-zA-Z0-9+/=]{0,9}$/).filter((text) => text.length <= longest);
      // A pattern alone says too little of a time; a version has none.
      const isTime = pattern?.test("2026-04-13T16:00:00.000Z") === true;
      const usual = isRefined && pattern === undefined ? versions : isRefined && isTime ? moment : matching;
      return fc.oneof({ weight: 40, arbitrary: usual }, { weight: 1, arbitrary: texts });
    }
    case "number":
      return number;
    case "boolean":
      return fc.boolean();
    case "enum":
      return fc.constantFrom(...Object.values(def.entries));
    case "literal":
      return fc.constantFrom(...def.values);
    case "nullable":
    case "optional":
      return fc.option(near(def.innerType as z.core.$ZodTypes), { nil: def.type === "nullable" ? null : undefined });
    case "array":
      return fc.array(near(def.element as z.core.$ZodTypes), { maxLength: 5 });
    case "object":
      return fc.record(
        Object.fromEntries(
          Object.entries(def.shape).map(([name, one]) => [name, near(one as z.core.$ZodTypes)] as const),
        ),
      );
    case "unknown":
      return fc.constant({});
    default:
      throw new Error(`no value of ${def.type} is made here`);
  }
}

const eventOf = (type: EventType): fc.Arbitrary<Record<string, unknown>> =>
  near(loggedEnvelope.extend({ type: z.literal(type), attributes: eventTypes[type].attributes })) as fc.Arbitrary<
    Record<string, unknown>
  >;

/** As JSON carries it: without members that are undefined, and with the spelling of RFC 8785 where it has one. */
function spelled(event: Record<string, unknown>): string {
  const value: unknown = JSON.parse(JSON.stringify(event));
  try {
    return canonicalJson(value);
  } catch {
    return JSON.stringify(value);
  }
}

/** Made once: arbitraries by expression are slow. */
const made = new Map(types.map((type) => [type, fc.sample(eventOf(type), { numRuns: 60, seed: 11 }).map(spelled)]));
const bodies = [...made.values()].flatMap((some) => some.filter((body) => columnsByPattern(body) !== null).slice(0, 3));

test.each(types)("of an event of the type %s the expression says what the parser says, or nothing", (type) => {
  let taken = 0;
  for (const body of made.get(type) ?? []) {
    const columns = columnsByPattern(body);
    if (columns === null) continue;
    taken += 1;
    expect(columns).toEqual(columnsByParsing(body));
  }
  expect(taken).toBeGreaterThan(2);
  expect(taken).toBeLessThan(60);
});

const pieces = [
  ...' \t\n\0"\\{}[],:-+.0123456789eEntf\u007fé\ud800\udc00'.split(""),
  ...'null true false 1.0 1e3 -0 00 01 -1 1000000000000000 9007199254740993 \\u0041 \\/ \\ud800 "" [] {} [null]'.split(
    " ",
  ),
  '"__proto__":{},',
  ',"__proto__":1',
  '"id":"x",',
  "2026-02-30",
  "1.2",
  "v1.2.3",
];

test("what an expression takes of a text that was changed, the parser takes too", () => {
  let taken = 0;
  const place = fc.double({ min: 0, max: 1, noNaN: true });
  fc.assert(
    fc.property(
      fc.constantFrom(...bodies),
      fc.array(
        fc.oneof(
          fc.tuple(place, fc.nat(12), fc.constantFrom("", ...pieces)),
          // Another digit, which some texts may have at that place.
          fc.tuple(place, fc.constant("digit" as const), fc.nat(9).map(String)),
        ),
        { minLength: 1, maxLength: 3 },
      ),
      (body, changes) => {
        let text = body;
        for (const [where, length, piece] of changes) {
          const from = Math.floor(where * text.length);
          const at = length === "digit" ? from + Math.max(0, text.slice(from).search(/\d/)) : from;
          text = text.slice(0, at) + piece + text.slice(at + (length === "digit" ? 1 : length));
        }
        const columns = columnsByPattern(text);
        taken += columns === null ? 0 : 1;
        expect(columns ?? columnsByParsing(text)).toEqual(columnsByParsing(text));
      },
    ),
    { numRuns: isDeep ? 20_000 : 2_000 },
  );
  expect(taken).toBeGreaterThan(50);
});

test("members in another order, and a body without one of them, are left to the parser", () => {
  for (const body of bodies) {
    const { attributes, ...rest } = JSON.parse(body) as Record<string, unknown>;
    const turned = JSON.stringify({ ...rest, attributes });
    expect(columnsByPattern(turned)).toBeNull();
    for (const name of Object.keys(rest)) {
      const without = canonicalJson({ ...rest, attributes, [name]: undefined });
      expect(columnsByPattern(without)).toBeNull();
      expect(columnsByParsing(without)).toBeNull();
    }
  }
});
