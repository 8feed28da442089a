// What may stand at the end of a query that is being written: keywords by their place in the grammar, subjects, fields,
// values. Pure; called by the shell when Tab is pressed.

import type { Field } from "../../shared/pql/catalogue.ts";
import type { Vocabulary } from "./vocabulary.ts";

export interface Completion {
  /** Where the word begins that the options would take the place of. */
  readonly from: number;
  /** Each begins with what stands there already, whatever its case; in the order in which they are to be shown. */
  readonly options: readonly string[];
  /** The field whose values belong here, where they are a tenant's own: more of them can be asked for. */
  readonly wanted: WantedValues | null;
}

export interface WantedValues {
  readonly subject: string;
  readonly field: string;
}

/** Values that were seen, as they are written in a query. */
export type SeenValues = (wanted: WantedValues) => readonly string[];

/** `text`: all of the query up to the cursor. */
export function complete(text: string, vocabulary: Vocabulary, seen: SeenValues): Completion {
  const { tokens, from } = tokensOf(text);
  const written = text.slice(from);
  const place = placeAfter(tokens);
  const { options, wanted } = candidatesAt(place, vocabulary, seen);
  const begins = written.toLowerCase();
  return { from, options: options.filter((option) => option.toLowerCase().startsWith(begins)), wanted };
}

function candidatesAt(place: Place, vocabulary: Vocabulary, seen: SeenValues): Omit<Completion, "from"> {
  const subject = place.subject ?? "";
  const only = (options: readonly string[]): Omit<Completion, "from"> => ({ options, wanted: null });
  if (place.kind === "subject") return only(vocabulary.subjects);
  if (place.kind === "bucket") return only(vocabulary.buckets);
  if (place.kind === "words") return only(place.words);
  const fields = vocabulary.fieldsOf(subject);
  if (place.kind === "field") return only([...fields.filter(place.filter).map(({ name }) => name), ...place.words]);
  const field = fields.find(({ name }) => name === place.name);
  if (place.kind === "operator") return only(operatorsOf(field));
  if (field === undefined) return only([]);
  const known = vocabulary.knownValues(subject, field.name);
  if (field.kind !== "text") return only(known);
  const wanted = { subject, field: field.name };
  const isOpen = known.length === 0 && field.groupable;
  return { options: [...new Set([...known, ...seen(wanted)])], wanted: isOpen ? wanted : null };
}

interface Token {
  readonly kind: "word" | "string" | "sign";
  /** A word in upper case is compared with keywords; names keep theirs. */
  readonly text: string;
}

const tokenPattern = /\s+|("(?:[^"\\\n]|\\.)*")|([A-Za-z_][\w.]*(?:"[^"\n]*"?)?|\d[\w.:-]*)|(!=|<=|>=|[^\s\w])/gy;

/** The finished tokens, and where the unfinished one begins: the end where the text ends in a blank or a sign. */
function tokensOf(text: string): { readonly tokens: Token[]; readonly from: number } {
  const tokens: Token[] = [];
  tokenPattern.lastIndex = 0;
  for (let at = 0; at < text.length; at = tokenPattern.lastIndex) {
    const [, string, word, sign] = tokenPattern.exec(text) ?? [];
    if (sign === '"') return { tokens, from: at };
    const isLast = tokenPattern.lastIndex === text.length;
    if (word !== undefined && isLast) return { tokens, from: at };
    if (string !== undefined) tokens.push({ kind: "string", text: string });
    else if (word !== undefined) tokens.push({ kind: "word", text: word });
    else if (sign !== undefined) tokens.push({ kind: "sign", text: sign });
  }
  return { tokens, from: text.length };
}

type Place = { readonly subject: string | null } & (
  | { readonly kind: "subject" }
  | { readonly kind: "bucket" }
  | { readonly kind: "words"; readonly words: readonly string[] }
  | {
      readonly kind: "field";
      readonly filter: (field: Field) => boolean;
      /** What may stand here in place of a field. */
      readonly words: readonly string[];
    }
  | { readonly kind: "operator" | "value"; readonly name: string }
);

const clauses = ["WHERE", "BUCKET BY", "TOP", "SINCE"] as const;
const operators = ["=", "!=", "<", "<=", ">", ">=", "IN", "LIKE", "EXISTS"];

/** Text alone has patterns, and booleans are not more or less. */
const operatorsOf = (field: Field | undefined): string[] =>
  operators.filter((operator) =>
    operator === "LIKE" ? field?.kind === "text" : field?.kind !== "boolean" || !/[<>]/.test(operator),
  );

/**
 * Walks over the tokens as the grammar would, and says what it would take next. What is no query any more has no place: no words.
 */
function placeAfter(tokens: readonly Token[]): Place {
  let at = 0;
  const next = (): Token | null => tokens[at++] ?? null;
  const is = (token: Token | null, word: string): boolean =>
    token?.text.toUpperCase() === word && token.kind !== "string";
  const words = (subject: string | null, ...list: string[]): Place => ({ kind: "words", subject, words: list });

  const find = next();
  if (find === null) return words(null, "FIND");
  if (!is(find, "FIND")) return words(null);
  const named = next();
  if (named === null) return { kind: "subject", subject: null };
  const subject = named.text.toLowerCase();
  const anyField = (...beside: string[]): Place => ({ kind: "field", subject, filter: () => true, words: beside });
  const groupField: Place = { kind: "field", subject, filter: ({ groupable }) => groupable, words: [] };

  let left: readonly string[] = clauses;
  for (;;) {
    const clause = next();
    if (clause === null) return words(subject, ...left);
    const index = left.findIndex((name) => is(clause, name.split(" ")[0]!));
    if (index < 0) return words(subject);
    const name = left[index];
    left = left.slice(index + 1);
    if (name === "WHERE") {
      const place = condition();
      if (place !== null) return place;
    } else if (name === "BUCKET BY") {
      const by = next();
      if (by === null) return words(subject, "BY");
      if (!is(by, "BY")) return words(subject);
      if (next() === null) return { kind: "bucket", subject };
    } else if (name === "TOP") {
      const count = next();
      if (count === null) return words(subject, "5", "10", "20", "K");
      const isK = is(count, "K");
      if (!isK) {
        const by = next();
        if (by === null) return words(subject, "BY");
        if (!is(by, "BY")) return words(subject);
      }
      if (next() === null) return groupField;
      if (isK) {
        const limit = next();
        if (limit === null) return words(subject, "LIMIT");
        if (!is(limit, "LIMIT")) return words(subject);
        if (next() === null) return words(subject, "5", "10", "20");
      }
    } else if (next() === null) return words(subject, "15m", "1h", "24h", "7d", "30d");
  }

  /** Up to the first token that is of the next clause; null where it is there. */
  function condition(): Place | null {
    let depth = 0;
    for (;;) {
      const first = next();
      if (first === null) return anyField("NOT", "EXISTS", "(");
      if (is(first, "NOT")) continue;
      if (is(first, "(")) {
        depth += 1;
        continue;
      }
      if (is(first, "EXISTS")) {
        if (next() === null) return anyField();
      } else {
        const place = comparison(first.text);
        if (place !== null) return place;
      }
      // Behind a test: closing parentheses, then what joins it to the next one, or the next clause.
      let joint = next();
      while (joint !== null && is(joint, ")") && depth > 0) {
        depth -= 1;
        joint = next();
      }
      if (joint === null) return depth > 0 ? words(subject, "AND", "OR", ")") : words(subject, "AND", "OR", ...left);
      if (is(joint, "AND") || is(joint, "OR")) continue;
      at -= 1;
      return null;
    }
  }

  function comparison(name: string): Place | null {
    const value: Place = { kind: "value", subject, name };
    const operator = next();
    if (operator === null) return { kind: "operator", subject, name };
    if (is(operator, "EXISTS")) return null;
    if (!is(operator, "IN")) {
      if (!operators.includes(operator.text.toUpperCase())) return words(subject);
      return next() === null ? value : null;
    }
    const open = next();
    if (open === null) return words(subject, "(");
    if (!is(open, "(")) return words(subject);
    for (;;) {
      if (next() === null) return value;
      const end = next();
      if (end === null) return words(subject, ",", ")");
      if (is(end, ")")) return null;
      if (!is(end, ",")) return words(subject);
    }
  }
}
