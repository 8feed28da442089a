// The catalogue of events as JSON Schema, for readers that are not ours: what a leaf's body may be. Published as
// docs/audit/events.schema.json and at GET /api/audit/events.schema.json; made of the zod schemas by scripts/generate/events.ts.
// And which changes of it are allowed: bodies are for ever, so whatever was valid once stays valid.

import { z } from "@hono/zod-openapi";
import { eventEnvelope, eventTypes, type EventType } from "./events.ts";
import { timestamp } from "./names.ts";

export type JsonSchema = { readonly [key: string]: unknown };

const draft = "https://json-schema.org/draft/2020-12/schema";

/** JSON Schema 2020-12 of a logged event. What it cannot say (that a version is semver, that a day exists) the log checks. */
export function catalogueSchema(): JsonSchema {
  const schemaOf = (schema: z.ZodType): JsonSchema => {
    const { $schema: _, ...made } = z.toJSONSchema(schema, { io: "input" }) as JsonSchema;
    return made;
  };
  const { type: _, attributes: __, ...envelope } = eventEnvelope.shape;
  const logged = z.strictObject({ ...envelope, seq: z.int().min(0), logged_at: timestamp });
  const common = schemaOf(logged) as { properties: JsonSchema; required: string[] };
  const types = Object.keys(eventTypes) as EventType[];
  return {
    $schema: draft,
    $id: "https://maestro-conductor.dev/schemas/audit-event.json",
    title: "An event of a tenant's audit log, as its leaf holds it behind the salt (RFC 8785 text)",
    type: "object",
    properties: { ...common.properties, type: { enum: types }, attributes: { type: "object" } },
    required: [...common.required, "type", "attributes"],
    additionalProperties: false,
    oneOf: types.map((type) => ({
      properties: { type: { const: type }, attributes: { $ref: `#/$defs/${type}` } },
    })),
    $defs: Object.fromEntries(types.map((type) => [type, schemaOf(eventTypes[type].attributes)])),
  };
}

/**
 * Why `after` may not take the place of `before`: a sentence that names the place, or null. Types and optional attributes may
 * be added, words to an enumeration, and bounds may widen; nothing may be removed, retyped, narrowed or newly required.
 */
export function catalogueFault(before: JsonSchema, after: JsonSchema): string | null {
  return faultAt("", before, after);
}

const isSchema = (value: unknown): value is JsonSchema =>
  value !== null && typeof value === "object" && !Array.isArray(value);
const listOf = (value: unknown): readonly unknown[] => (Array.isArray(value) ? (value as unknown[]) : []);
const isSame = (left: unknown, right: unknown): boolean => JSON.stringify(left) === JSON.stringify(right);
const boundOf = (value: unknown, otherwise: number): number => (typeof value === "number" ? value : otherwise);

/** Keywords whose members are schemas by name. */
const maps = ["properties", "$defs"];
/** Keywords where more is wider, and where less is. */
const upper = ["maximum", "maxLength", "maxItems"];
const lower = ["minimum", "minLength", "minItems"];
/** Words for people. */
const notes = ["title", "description", "examples", "$id", "$schema"];

function faultAt(path: string, before: JsonSchema, after: JsonSchema): string | null {
  const at = path === "" ? "the event" : path;
  for (const keyword of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const [old, next] = [before[keyword], after[keyword]];
    if (notes.includes(keyword) || isSame(old, next)) continue;
    if (maps.includes(keyword)) {
      const fault = membersFault(path, isSchema(old) ? old : {}, isSchema(next) ? next : {});
      if (fault !== null) return fault;
    } else if (keyword === "required") {
      const added = listOf(next).filter((name) => !listOf(old).includes(name));
      if (added.length > 0) return `${at}: ${added.join(", ")} is newly required`;
    } else if (keyword === "enum" || keyword === "oneOf") {
      const gone = listOf(old).filter((value) => !listOf(next).some((other) => isSame(value, other)));
      if (old === undefined || gone.length > 0) return `${at}: ${keyword} lost ${JSON.stringify(gone)}`;
    } else if (upper.includes(keyword)) {
      if (boundOf(next, Infinity) < boundOf(old, Infinity)) return `${at}: ${keyword} is narrower`;
    } else if (lower.includes(keyword)) {
      if (boundOf(next, -Infinity) > boundOf(old, -Infinity)) return `${at}: ${keyword} is narrower`;
    } else if (keyword === "anyOf" && listOf(old).length === listOf(next).length) {
      for (const [index, one] of listOf(old).entries()) {
        const fault = faultAt(path, one as JsonSchema, listOf(next)[index] as JsonSchema);
        if (fault !== null) return fault;
      }
    } else if (keyword === "items" && isSchema(old) && isSchema(next)) {
      const fault = faultAt(`${path}[]`, old, next);
      if (fault !== null) return fault;
    } else {
      return `${at}: ${keyword} was ${JSON.stringify(old) ?? "absent"} and is ${JSON.stringify(next) ?? "absent"}`;
    }
  }
  return null;
}

function membersFault(path: string, before: JsonSchema, after: JsonSchema): string | null {
  for (const [name, old] of Object.entries(before)) {
    const place = path === "" ? name : `${path}.${name}`;
    const next = after[name];
    if (next === undefined) return `${place} is gone`;
    const fault = faultAt(place, old as JsonSchema, next as JsonSchema);
    if (fault !== null) return fault;
  }
  return null;
}
