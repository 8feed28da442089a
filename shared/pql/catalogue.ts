// What PQL can ask about: subjects, fields, attributes. A subject is a kind of row of audit_events; a field is one of
// its columns; `attrs.key` is one of the scalar attributes that the event catalogue gives the subject's types.
// The planner looks every name up here, and SQL takes identifiers from nowhere else.

import { eventTypes, type EventType } from "../contract/events.ts";
import { timestamp } from "../contract/names.ts";

export const subjectNames = ["executions", "receipts", "decisions", "events", "installs", "entitlements"] as const;
export type SubjectName = (typeof subjectNames)[number];

/**
 * Subject → the event types whose rows it is, one row a thing. A run is two events: `executions` are the finished ones,
 * since that row alone has outcome, duration and exit code, and counting both would count each run twice. Runs that
 * have begun are `events WHERE type = "mc.execution.started"`.
 */
export const subjects: ReadonlyMap<string, readonly EventType[]> = new Map<SubjectName, readonly EventType[]>([
  ["executions", ["mc.execution.finished"]],
  ["receipts", ["mc.receipt.signed"]],
  ["decisions", ["mc.policy.decision"]],
  ["events", Object.keys(eventTypes) as EventType[]],
  ["installs", ["mc.install.changed"]],
  ["entitlements", ["mc.entitlement.changed"]],
]);

/** `duration` is an integer of milliseconds that a duration may be compared with. */
export type FieldKind = "text" | "integer" | "duration" | "boolean" | "timestamp";

/** Columns of audit_events that may stand in a query: all but the tenant and the attributes' text. */
export type ColumnName =
  | "seq"
  | "logged_at"
  | "occurred_at"
  | "event_id"
  | "type"
  | "source"
  | "principal"
  | "execution_id"
  | "package"
  | "version"
  | "channel"
  | "outcome"
  | "rule"
  | "action"
  | "units"
  | "duration_ms";

export type Field = { readonly name: string; readonly kind: FieldKind; readonly groupable: boolean } & (
  | { readonly column: ColumnName }
  | { readonly attribute: string }
);

const column = (name: ColumnName, kind: FieldKind, groupable: boolean): [string, Field] => [
  name,
  { name, kind, groupable, column: name },
];

export const columns: ReadonlyMap<string, Field> = new Map([
  column("seq", "integer", false),
  column("logged_at", "timestamp", false),
  column("occurred_at", "timestamp", false),
  column("event_id", "text", false),
  column("type", "text", true),
  column("source", "text", true),
  column("principal", "text", true),
  column("execution_id", "text", true),
  column("package", "text", true),
  column("version", "text", true),
  column("channel", "text", true),
  column("outcome", "text", true),
  column("rule", "text", true),
  column("action", "text", true),
  column("units", "integer", true),
  column("duration_ms", "duration", false),
]);

/** `attrs.key` → field, for the attributes of these types. Lists and objects are not values, so they are no fields. */
export function attributesOf(types: readonly EventType[]): ReadonlyMap<string, Field> {
  const fields = new Map<string, Field>();
  for (const type of types) {
    for (const [attribute, schema] of Object.entries(eventTypes[type].attributes.shape)) {
      const kind = kindOf(schema);
      const name = `attrs.${attribute}`;
      if (kind !== null) fields.set(name, { name, kind, groupable: kind !== "timestamp", attribute });
    }
  }
  return fields;
}

/** The same, by subject: looked up on each query. */
export const attributesBySubject: ReadonlyMap<string, ReadonlyMap<string, Field>> = new Map(
  [...subjects].map(([name, types]) => [name, attributesOf(types)]),
);

interface SchemaLike {
  readonly def: { readonly type: string; readonly innerType?: unknown };
}

function kindOf(schema: SchemaLike): FieldKind | null {
  if ((schema as unknown) === timestamp) return "timestamp";
  switch (schema.def.type) {
    case "nullable":
    case "optional":
      return kindOf(schema.def.innerType as SchemaLike);
    case "string":
    case "enum":
      return "text";
    case "number":
      return "integer";
    case "boolean":
      return "boolean";
    default:
      return null;
  }
}
