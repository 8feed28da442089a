// Values that a tenant's fields have had, for completion: those of earlier answers, and once a field those of one small
// question. Held by the shell, in memory only.

import type { PqlAnswer } from "../../shared/contract/http-pql.ts";
import { printable } from "../output.ts";
import type { SeenValues, WantedValues } from "./complete.ts";
import { quoted, type Vocabulary } from "./vocabulary.ts";

/** Of one field; what was seen last stays. */
const valuesMax = 200;
/** The subject of a query. */
const subjectPattern = /^\s*FIND\s+(\w+)/i;

/** The question that a Tab may cost, once a field: the most frequent values of the last 30 days. */
export const valueQuestion = ({ subject, field }: WantedValues): string =>
  `FIND ${subject} TOP 20 BY ${field} SINCE 30d`;

export class ValueMemory {
  readonly #vocabulary: Vocabulary;
  readonly #seen = new Map<string, Set<string>>();
  readonly #asked = new Set<string>();

  constructor(vocabulary: Vocabulary) {
    this.#vocabulary = vocabulary;
  }

  readonly seen: SeenValues = (wanted) => [...(this.#seen.get(keyOf(wanted)) ?? [])];

  /** True the first time: then it is worth asking. */
  mayAsk(wanted: WantedValues): boolean {
    if (this.#asked.has(keyOf(wanted))) return false;
    this.#asked.add(keyOf(wanted));
    return true;
  }

  learn(query: string, answer: PqlAnswer): void {
    const subject = subjectPattern.exec(query)?.[1]?.toLowerCase();
    if (subject === undefined) return;
    if (answer.kind === "groups") {
      for (const { name } of answer.groups)
        if (answer.field !== null) this.#add({ subject, field: answer.field }, name);
      return;
    }
    const texts = this.#vocabulary.fieldsOf(subject).filter(({ kind, groupable }) => kind === "text" && groupable);
    for (const { name: field } of texts) {
      for (const row of answer.rows) this.#add({ subject, field }, row[field]);
    }
  }

  #add(wanted: WantedValues, value: unknown): void {
    // What a terminal cannot show is what a string of PQL cannot hold: no value to complete.
    if (typeof value !== "string" || value === "" || printable(value) !== value) return;
    const values = this.#seen.get(keyOf(wanted)) ?? new Set<string>();
    this.#seen.set(keyOf(wanted), values);
    const text = quoted(value);
    values.delete(text);
    values.add(text);
    for (const oldest of values) {
      if (values.size <= valuesMax) break;
      values.delete(oldest);
    }
  }
}

const keyOf = ({ subject, field }: WantedValues): string => `${subject} ${field}`;
