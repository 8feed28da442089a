// The published JSON Schema of events: it says what the catalogue says, only ever grows, and has no place for a person's data.

import { Ajv2020 } from "ajv/dist/2020.js";
import { describe, expect, test } from "vitest";
import { eventAt, seeded } from "../../test/simulation/audit-events.ts";
import { catalogueFault, catalogueSchema, type JsonSchema } from "./event-schema.ts";
import { eventTypes } from "./events.ts";

const schema = catalogueSchema();
const ajv = new Ajv2020({ strict: false, validateFormats: false });
const isValid = ajv.compile(schema);

const logged = (index: number): Record<string, unknown> => ({
  ...eventAt(index, seeded(index)),
  seq: index,
  logged_at: "2026-04-13T17:00:00.000Z",
});

test("the schema is one, and takes events of the catalogue as they are logged", () => {
  expect(ajv.validateSchema(schema)).toBe(true);
  for (const index of [0, 1, 2, 3]) expect([isValid(logged(index)), isValid.errors]).toEqual([true, null]);
});

test("another version, an unknown type, a member too many, one too few and another type's attributes are refused", () => {
  const event = logged(1);
  const { seq: _, ...unlogged } = event;
  const others = [
    { ...event, schema_version: 2 },
    { ...event, type: "mc.nothing.happened" },
    { ...event, note: "x" },
    unlogged,
    { ...event, attributes: logged(0)["attributes"] },
    { ...event, principal: "jane@example.com" },
    { ...event, attributes: { ...(event["attributes"] as object), note: "x" } },
  ];
  for (const other of others) expect(isValid(other)).toBe(false);
});

describe("no personal data", () => {
  /** Texts that are not fixed by a pattern, a list or a format, and what bounds them instead. */
  const bounded: Readonly<Record<string, string>> = {
    version: "semver, checked by the catalogue",
    previous_version: "semver, checked by the catalogue",
    version_range: "a range that semver could read, checked by the route",
    "receipt.dsseEnvelope.payload": "a statement that the log itself made of such events",
    "receipt.dsseEnvelope.payloadType": "compared with the one type by whoever reads it",
    "receipt.dsseEnvelope.signatures[].sig": "a signature of the log's own",
    "receipt.dsseEnvelope.signatures[].keyid": "a key of the log's own",
    "receipt.verificationMaterial.publicKey.hint": "a key of the log's own",
    "receipt.verificationMaterial.tlogEntries": "always empty",
  };

  function* freeTexts(path: string, at: JsonSchema): Generator<string> {
    const keys = Object.keys(at);
    if (at["anyOf"] !== undefined) for (const one of at["anyOf"] as JsonSchema[]) yield* freeTexts(path, one);
    else if (at["type"] === "object" && at["additionalProperties"] === false) {
      for (const [name, member] of Object.entries(at["properties"] as Record<string, JsonSchema>)) {
        yield* freeTexts(path === "" ? name : `${path}.${name}`, member);
      }
    } else if (at["type"] === "array" && at["maxItems"] !== 0) yield* freeTexts(`${path}[]`, at["items"] as JsonSchema);
    else if (["integer", "boolean", "null"].includes(String(at["type"]))) return;
    else if (!["pattern", "enum", "const"].some((keyword) => keys.includes(keyword))) yield path;
  }

  test.each(Object.keys(eventTypes))(
    "%s has no free text: each is a machine word, an id, a digest or a time",
    (type) => {
      const attributes = (schema["$defs"] as Record<string, JsonSchema>)[type]!;
      expect([...freeTexts("", attributes)].filter((path) => bounded[path] === undefined)).toEqual([]);
    },
  );

  test("whoever did it is a pseudonymous id, and nothing else of an event tells of a person", () => {
    const { properties } = schema as { properties: Record<string, JsonSchema> };
    expect(Object.keys(properties).toSorted()).toEqual([
      "attributes",
      "id",
      "logged_at",
      "occurred_at",
      "principal",
      "schema_version",
      "seq",
      "source",
      "source_seq",
      "tenant_id",
      "type",
    ]);
    expect(JSON.stringify(properties["principal"])).toContain("^pri_");
  });
});

describe("a change of the catalogue", () => {
  const base: JsonSchema = {
    type: "object",
    properties: {
      outcome: { type: "string", enum: ["a", "b"] },
      units: { type: "integer", minimum: 0, maximum: 10 },
      digest: { anyOf: [{ type: "string", pattern: "^[0-9a-f]{64}$" }, { type: "null" }] },
      list: { type: "array", items: { type: "integer" }, maxItems: 4 },
    },
    required: ["outcome"],
    additionalProperties: false,
  };
  const members = base["properties"] as Record<string, JsonSchema>;
  const changed = (properties: Record<string, unknown>, rest: object = {}): JsonSchema => ({
    ...base,
    properties: { ...members, ...properties },
    ...rest,
  });

  const refused: [string, JsonSchema, string][] = [
    ["removes an attribute", { ...base, properties: { outcome: members["outcome"] } }, "units is gone"],
    ["retypes one", changed({ units: { type: "string" } }), "units: type was"],
    ["takes a word away", changed({ outcome: { type: "string", enum: ["a"] } }), 'outcome: enum lost ["b"]'],
    [
      "lists words where any was allowed",
      changed({ digest: { anyOf: [{ enum: ["x"] }, { type: "null" }] } }),
      "digest",
    ],
    ["narrows a bound", changed({ units: { type: "integer", minimum: 0, maximum: 9 } }), "maximum is narrower"],
    [
      "brings a bound",
      changed({ list: { type: "array", items: { type: "integer" }, maxItems: 4, minItems: 1 } }),
      "minItems",
    ],
    [
      "retypes what a list holds",
      changed({ list: { type: "array", items: { type: "string" }, maxItems: 4 } }),
      "list[]",
    ],
    [
      "changes a pattern",
      changed({ digest: { anyOf: [{ type: "string", pattern: "^x$" }, { type: "null" }] } }),
      "digest: pattern",
    ],
    [
      "takes null away",
      changed({ digest: { anyOf: [{ type: "string", pattern: "^[0-9a-f]{64}$" }] } }),
      "digest: anyOf",
    ],
    ["requires one more", changed({}, { required: ["outcome", "units"] }), "units is newly required"],
    ["opens what was closed", changed({}, { additionalProperties: true }), "additionalProperties"],
  ];
  test.each(refused)("that %s is refused", (_, after, fault) => expect(catalogueFault(base, after)).toContain(fault));

  const allowed: [string, JsonSchema][] = [
    ["nothing", base],
    ["an optional attribute", changed({ more: { type: "integer" } })],
    ["a word", changed({ outcome: { type: "string", enum: ["a", "b", "c"] } })],
    ["a wider bound", changed({ units: { type: "integer", minimum: -1, maximum: 11 } })],
    ["one requirement less", changed({}, { required: [] })],
    ["other words for people", { ...base, title: "t", description: "d" }],
  ];
  test.each(allowed)("that brings %s is taken", (_, after) => expect(catalogueFault(base, after)).toBeNull());

  test("to the catalogue itself: each of its types removed, or an attribute of it, is found", () => {
    const defs = schema["$defs"] as Record<string, JsonSchema>;
    for (const [type, attributes] of Object.entries(defs)) {
      const { [type]: _, ...without } = defs;
      expect(catalogueFault(schema, { ...schema, $defs: without })).toBe(`${type} is gone`);
      for (const name of Object.keys(attributes["properties"] as object)) {
        const { [name]: __, ...fewer } = attributes["properties"] as Record<string, unknown>;
        const changedDefs = { ...defs, [type]: { ...attributes, properties: fewer } };
        expect(catalogueFault(schema, { ...schema, $defs: changedDefs })).toBe(`${type}.${name} is gone`);
      }
    }
  });
});
