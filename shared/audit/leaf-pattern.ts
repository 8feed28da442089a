// The columns of a leaf's body by one regular expression, for the verifier, which reads millions: an expression for each type
// of event, made from the catalogue's own schemas. What it matches is the RFC 8785 text of an event that they accept; what it
// does not match may still be one, and is for `parseLeaf` to judge.

import { z } from "@hono/zod-openapi";
import { eventTypes, loggedEnvelope, type EventColumns, type EventType } from "../contract/events.ts";

export interface LeafColumns extends EventColumns {
  readonly source_seq: number | null;
}

type Schema = z.core.$ZodTypes;
type Kind = "text" | "number" | "other";

/** What a group of the expression holds. */
interface Token {
  /** The members that lead to it, joined by dots. */
  readonly path: string;
  readonly kind: Kind;
  /** What the expression leaves to be checked of the token. */
  readonly checks: readonly ((token: string) => boolean)[];
}

/** Thrown while an expression is made, of a schema that none can be made of. */
class Unsupported extends Error {}

const escaped = (text: string): string => text.replaceAll(/[\\^$.*+?()[\]{}|/]/g, String.raw`\$&`);
/** A character that JSON.stringify and RFC 8785 write as it is; of a surrogate it would have to be known whether it is alone. */
const plainCharacters = String.raw`[^"\\\u0000-\u001f\ud800-\udfff]*`;
/** A whole number below 10^15, which has no other spelling. */
const integer = String.raw`0|-?[1-9][0-9]{0,14}`;

function optionsOf(values: readonly unknown[]): string {
  if (values.length === 0 || !values.every((value) => typeof value === "string"))
    throw new Unsupported("values of another kind");
  // Each is spelled as it is: a token is the value.
  if (!values.every((value) => JSON.stringify(value) === `"${value}"`)) throw new Unsupported("values with escapes");
  return values.map(escaped).join("|");
}

/** All checks of a schema, its own as that of a format included; each alone refuses what it refuses. */
function checksOf(schema: Schema): z.core.$ZodChecks["_zod"]["def"][] {
  const own = "check" in schema._zod.def ? [schema._zod.def as unknown as z.core.$ZodChecks["_zod"]["def"]] : [];
  return [...own, ...(schema._zod.def.checks ?? []).map((check) => (check as z.core.$ZodChecks)._zod.def)];
}

function textCheck(def: z.core.$ZodChecks["_zod"]["def"]): (token: string) => boolean {
  if (def.check === "max_length") return (token) => token.length <= def.maximum;
  if (def.check === "string_format" && (def.format === "regex" || def.format === "uuid")) {
    const { pattern } = def;
    if (pattern !== undefined && pattern.flags === "") return (token) => pattern.test(token);
  }
  // What `refine` was given. It is asked once for texts that come often.
  if ((def.check as string) === "custom" && "fn" in def && typeof def.fn === "function") {
    const accepts = def.fn as (value: unknown) => unknown;
    return rememberingYes((token) => accepts(token) === true);
  }
  throw new Unsupported(`the check ${def.check}`);
}

const rememberedMax = 256;

/** `accepts`, which is a function of the token alone; the last tokens that it took are known. */
function rememberingYes(accepts: (token: string) => boolean): (token: string) => boolean {
  let known = new Set<string>();
  return (token) => {
    if (known.has(token)) return true;
    if (!accepts(token)) return false;
    if (known.size >= rememberedMax) known = new Set();
    known.add(token);
    return true;
  };
}

function numberCheck(def: z.core.$ZodChecks["_zod"]["def"]): ((token: string) => boolean) | null {
  if (def.check === "number_format" && def.format === "safeint") return null; // every `integer` is one
  if (def.check === "greater_than" && typeof def.value === "number") {
    const { value, inclusive } = def;
    return (token) => (inclusive ? Number(token) >= value : Number(token) > value);
  }
  if (def.check === "less_than" && typeof def.value === "number") {
    const { value, inclusive } = def;
    return (token) => (inclusive ? Number(token) <= value : Number(token) < value);
  }
  throw new Unsupported(`the check ${def.check}`);
}

/** Makes one expression: its groups are numbered in the order in which they are opened. */
class Pattern {
  readonly tokens: Token[] = [];

  #group(path: string, kind: Kind, inner: string, checks: Token["checks"] = []): string {
    this.tokens.push({ path, kind, checks });
    return `(${inner})`;
  }

  /** The text of the values of `schema`. */
  of(schema: Schema, path: string): string {
    const { def } = schema._zod;
    if ("coerce" in def && def.coerce) throw new Unsupported("a coerced value");
    switch (def.type) {
      case "string":
        return `"${this.#group(path, "text", plainCharacters, checksOf(schema).map(textCheck))}"`;
      case "number": {
        const checks = checksOf(schema);
        if (!checks.some(({ check }) => check === "number_format")) throw new Unsupported("a fraction");
        return this.#group(
          path,
          "number",
          integer,
          checks.map(numberCheck).filter((check) => check !== null),
        );
      }
      case "boolean":
        return this.#plain(schema, this.#group(path, "other", "true|false"));
      case "enum":
        return this.#plain(schema, `"${this.#group(path, "text", optionsOf(Object.values(def.entries)))}"`);
      case "literal":
        if (def.values.length === 1 && def.values[0] === 1) return this.#plain(schema, "1");
        return this.#plain(schema, `"${this.#group(path, "text", optionsOf(def.values))}"`);
      case "nullable":
        return this.#plain(schema, `(?:null|${this.of(def.innerType as Schema, path)})`);
      case "array":
        return this.#array(schema, def, path);
      case "object":
        return this.#plain(schema, this.#object(def, path));
      default:
        throw new Unsupported(def.type);
    }
  }

  #plain(schema: Schema, source: string): string {
    if (checksOf(schema).length > 0) throw new Unsupported("a check of a whole");
    return source;
  }

  /** Each item is spelled out, since a repeated group holds the last alone. */
  #array(schema: Schema, def: z.core.$ZodArrayDef, path: string): string {
    let [least, most] = [0, Number.POSITIVE_INFINITY];
    for (const check of checksOf(schema)) {
      if (check.check === "min_length") least = Math.max(least, check.minimum);
      else if (check.check === "max_length") most = Math.min(most, check.maximum);
      else throw new Unsupported(`the check ${check.check}`);
    }
    if (most > 8 || least > most) throw new Unsupported("a long array");
    const from = (at: number): string => {
      if (at === most) return "";
      const rest = `${at === 0 ? "" : ","}${this.of(def.element as Schema, `${path}.${at}`)}${from(at + 1)}`;
      return at < least ? rest : `(?:${rest})?`;
    };
    return String.raw`\[${from(0)}\]`;
  }

  #object(def: z.core.$ZodObjectDef, path: string): string {
    if (def.catchall?._zod.def.type !== "never") throw new Unsupported("members that are not known");
    let source = "";
    let isBehindRequired = false;
    // By UTF-16 code units, as RFC 8785 sorts.
    for (const name of Object.keys(def.shape).toSorted()) {
      let schema = def.shape[name] as Schema;
      const isOptional = schema._zod.def.type === "optional";
      if (schema._zod.def.type === "optional") {
        this.#plain(schema, "");
        schema = schema._zod.def.innerType as Schema;
      }
      if (JSON.stringify(name) !== `"${name}"`) throw new Unsupported("a name with escapes");
      const whole = path === "" && name === "attributes";
      const label = `"${escaped(name)}":`;
      if (whole) this.tokens.push({ path: name, kind: "text", checks: [] });
      const value = this.of(schema, path === "" ? name : `${path}.${name}`);
      const member = `${label}${whole ? `(${value})` : value}`;
      if (isBehindRequired) source += isOptional ? `(?:,${member})?` : `,${member}`;
      else source += isOptional ? `(?:${member},)?` : member;
      isBehindRequired ||= !isOptional;
    }
    // Else it cannot be told which of them has no comma.
    if (!isBehindRequired) throw new Unsupported("members that are all optional");
    return String.raw`\{${source}\}`;
  }
}

/** Of a match: the group that a column is in, or 0 where no event of this type has it. */
type Places = Readonly<Record<keyof LeafColumns, number>>;

interface TypePattern {
  readonly expression: RegExp;
  readonly checked: readonly { readonly at: number; readonly accepts: (token: string) => boolean }[];
  readonly places: Places;
}

function patternOf(type: EventType): TypePattern | null {
  const pattern = new Pattern();
  const whole = loggedEnvelope.extend({ type: z.literal(type), attributes: eventTypes[type].attributes });
  let source: string;
  try {
    source = pattern.of(whole, "");
  } catch (error) {
    if (error instanceof Unsupported) return null;
    throw error;
  }
  const place = (path: string, kind: Kind): number =>
    1 + pattern.tokens.findIndex((token) => token.path === path && token.kind === kind);
  const text = (name: string): number => place(`attributes.${name}`, "text");
  const number = (name: string): number => place(`attributes.${name}`, "number");
  return {
    expression: new RegExp(`^${source}$`),
    checked: pattern.tokens.flatMap(({ checks }, at) => checks.map((accepts) => ({ at: at + 1, accepts }))),
    places: {
      tenant_id: place("tenant_id", "text"),
      seq: place("seq", "number"),
      logged_at: place("logged_at", "text"),
      occurred_at: place("occurred_at", "text"),
      event_id: place("id", "text"),
      type: place("type", "text"),
      source: place("source", "text"),
      principal: place("principal", "text"),
      execution_id: text("execution_id"),
      package: text("package"),
      version: text("version"),
      channel: text("channel"),
      outcome: text("outcome"),
      rule: text("rule"),
      action: text("action"),
      units: number("units"),
      duration_ms: number("duration_ms"),
      attrs: place("attributes", "text"),
      source_seq: place("source_seq", "number"),
    },
  };
}

const patterns = new Map<string, TypePattern | null>();

/** Made when the first event of the type comes; null for what is no type, and for a type whose schemas are beyond expressions. */
function patternFor(type: string): TypePattern | null {
  let pattern = patterns.get(type);
  if (pattern === undefined) {
    if (!Object.hasOwn(eventTypes, type)) return null;
    pattern = patternOf(type as EventType);
    patterns.set(type, pattern);
  }
  return pattern;
}

/** RFC 8785 has it last. */
const typeLabel = ',"type":"';

/**
 * The columns of a body, as `parseLeaf` and `eventColumns` give them; null also where that cannot be told so quickly.
 */
export function columnsByPattern(body: string): LeafColumns | null {
  const label = body.lastIndexOf(typeLabel);
  const pattern = label < 0 ? null : patternFor(body.slice(label + typeLabel.length, -2));
  const match = pattern?.expression.exec(body);
  if (pattern === null || match === null || match === undefined) return null;
  for (const { at, accepts } of pattern.checked) {
    const token = match[at];
    if (token !== undefined && !accepts(token)) return null;
  }
  const { places } = pattern;
  const text = (at: number): string | null => (at === 0 ? null : (match[at] ?? null));
  const number = (at: number): number | null => (at === 0 || match[at] === undefined ? null : Number(match[at]));
  return {
    tenant_id: match[places.tenant_id]!,
    seq: Number(match[places.seq]),
    logged_at: match[places.logged_at]!,
    occurred_at: match[places.occurred_at]!,
    event_id: match[places.event_id]!,
    type: match[places.type] as EventType,
    source: match[places.source]!,
    principal: text(places.principal),
    execution_id: text(places.execution_id),
    package: text(places.package),
    version: text(places.version),
    channel: text(places.channel),
    outcome: text(places.outcome),
    rule: text(places.rule),
    action: text(places.action),
    units: number(places.units),
    duration_ms: number(places.duration_ms),
    attrs: match[places.attrs]!,
    source_seq: number(places.source_seq),
  };
}
