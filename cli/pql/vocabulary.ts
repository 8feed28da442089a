// The words that can be completed: subjects, fields and the values that the contract itself names. From PQL's own catalogue
// and the catalogue of events, so that a new field or outcome is completed the day it is there. Pure.

import { eventSources, eventTypes, type EventType } from "../../shared/contract/events.ts";
import { channelNames } from "../../shared/contract/names.ts";
import { attributesBySubject, columns, subjects, type Field } from "../../shared/pql/catalogue.ts";
import { bucketsMs } from "../../shared/pql/limits.ts";

export interface Vocabulary {
  readonly subjects: readonly string[];
  readonly buckets: readonly string[];
  /** Columns first, then the subject's attributes; of an unknown subject the columns alone. */
  fieldsOf(subject: string): readonly Field[];
  /** What the contract says a field may be, as it is written in a query; empty where anything may stand there. */
  knownValues(subject: string, field: string): readonly string[];
}

export const vocabulary: Vocabulary = {
  subjects: [...subjects.keys()],
  buckets: [...bucketsMs.keys()],
  fieldsOf: (subject) => [...columns.values(), ...(attributesBySubject.get(subject)?.values() ?? [])],
  knownValues(subject, name) {
    const types = subjects.get(subject) ?? [];
    const field = columns.get(name) ?? attributesBySubject.get(subject)?.get(name);
    if (field?.kind === "boolean") return ["true", "false"];
    if (name === "type") return types.map(quoted);
    if (name === "source") return eventSources.map(quoted);
    if (name === "channel") return channelNames.map(quoted);
    const attribute = name.replace(/^attrs\./, "");
    return [...new Set(types.flatMap((type) => wordsOf(type, attribute)))].map(quoted);
  },
};

/** As a string of PQL. */
export const quoted = (text: string): string => `"${text.replaceAll(/["\\]/g, "\\$&")}"`;

interface SchemaLike {
  readonly def: {
    readonly type: string;
    readonly innerType?: SchemaLike;
    readonly entries?: Readonly<Record<string, string>>;
    readonly values?: readonly unknown[];
  };
}

/** The words of an attribute that has a list of them. */
function wordsOf(type: EventType, attribute: string): string[] {
  const shape = eventTypes[type].attributes.shape as Readonly<Record<string, unknown>>;
  let schema = Object.hasOwn(shape, attribute) ? (shape[attribute] as SchemaLike) : undefined;
  while (schema?.def.innerType !== undefined) schema = schema.def.innerType;
  if (schema?.def.type === "enum") return Object.values(schema.def.entries ?? {});
  if (schema?.def.type === "literal") return (schema.def.values ?? []).map(String);
  return [];
}
