// What PQL 1.2 added to 1.1: BUCKET BY and TOP. Where a tenant's flag pql_v1_2 is off, a query that has either is refused.
// Called by POST /api/pql.

import type { Query } from "./ast.ts";
import { refuserOf } from "./pql-error.ts";

/** Whether a query asks for anything of 1.2, and so whether the flag has to be known at all. */
export const usesPql12 = ({ bucket, top }: Query): boolean => bucket !== null || top !== null;

/**
 * Throws PqlError at the first clause of 1.2. The query, of which `text` is the text, stays as it is otherwise: FIND, WHERE and
 * SINCE mean the same.
 */
export function refusePql12(query: Query, text: string): void {
  const clause = clauseOf12(query, text);
  if (clause === null) return;
  refuserOf(text)(clause.at, `${clause.name} is PQL 1.2, and the flag pql_v1_2 is off for this tenant.`, {
    expected: ["WHERE", "SINCE", "the end of the query"],
    suggestion:
      "PQL 1.1 has FIND, WHERE and SINCE: ask for the rows and count them, or have an admin switch the flag on.",
  });
}

interface Clause {
  readonly name: "BUCKET BY" | "TOP";
  /** Where its keyword stands. */
  readonly at: number;
}

/** The tree has the places of the values; the keyword stands before them, with nothing but blanks in between. */
function clauseOf12({ bucket, top }: Query, text: string): Clause | null {
  if (bucket !== null) return { name: "BUCKET BY", at: text.slice(0, bucket.at).search(/BUCKET\s+BY\s*$/i) };
  if (top === null) return null;
  return { name: "TOP", at: text.slice(0, Math.min(top.at, top.field.at)).search(/TOP\s+(?:K\s+)?$/i) };
}
