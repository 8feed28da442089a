// The PQL parser, generated from grammar.peggy by scripts/generate/pql.ts; do not edit.
// source-sha256: e186c598109369c4d8743eafc2f3803c3249fd71e75a630dc9dbfd37cfe0cbf7

import type { Query } from "./ast.ts";
import type { Refuse } from "./pql-error.ts";

/** Throws `SyntaxError` of this module, or what `refuse` throws. */
export declare function parse(text: string, options: { readonly refuse: Refuse }): Query;

export type Expectation =
  | { readonly type: "literal"; readonly text: string }
  | { readonly type: "class" | "any" | "end" }
  | { readonly type: "other"; readonly description: string };

export declare class SyntaxError extends Error {
  readonly expected: readonly Expectation[] | null;
  readonly found: string | null;
  readonly location: { readonly start: { readonly offset: number } };
}
