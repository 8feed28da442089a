// What a PQL text means once parsed, before any name in it was looked up. The grammar builds it, plan.ts reads it.
// `at` is an offset into the text, for error messages.

export const comparators = ["=", "!=", "<", "<=", ">", ">="] as const;
export type Comparator = (typeof comparators)[number];

export interface FieldName {
  /** `outcome`, or `attrs.exit_code`. */
  readonly name: string;
  readonly at: number;
}

/** `duration` and `timestamp` are milliseconds: a length, and a time since 1970 UTC. */
export type Literal = { readonly at: number; readonly text: string } & (
  | { readonly kind: "text"; readonly value: string }
  | { readonly kind: "integer" | "duration" | "timestamp"; readonly value: number }
  | { readonly kind: "boolean"; readonly value: boolean }
);

export type Predicate =
  | { readonly kind: "and" | "or"; readonly of: readonly Predicate[] }
  | { readonly kind: "not"; readonly of: Predicate }
  | { readonly kind: "compare"; readonly field: FieldName; readonly op: Comparator; readonly value: Literal }
  | { readonly kind: "in"; readonly field: FieldName; readonly values: readonly Literal[]; readonly at: number }
  | { readonly kind: "like"; readonly field: FieldName; readonly pattern: Literal }
  | { readonly kind: "exists"; readonly field: FieldName };

export interface Query {
  readonly subject: { readonly name: string; readonly at: number };
  readonly where: { readonly predicate: Predicate; readonly at: number } | null;
  readonly bucket: { readonly ms: number; readonly text: string; readonly at: number } | null;
  readonly top: { readonly count: number; readonly field: FieldName; readonly at: number } | null;
  readonly since: { readonly ms: number; readonly text: string; readonly at: number } | null;
}

/** Comparisons, and the ANDs, ORs and NOTs that join them. Recursion is bounded: the guards came before the parser. */
export function predicateNodes(predicate: Predicate): number {
  if (predicate.kind === "not") return 1 + predicateNodes(predicate.of);
  if ("of" in predicate) return predicate.of.reduce((sum, part) => sum + predicateNodes(part), 1);
  return 1;
}
