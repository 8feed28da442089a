// Which PQL a tenant may ask: 1.2, or 1.1 where its flag pql_v1_2 is off. Asked for POST /api/pql before anything is read.

import type { Clock } from "../../shared/contract/ports.ts";
import { Problem } from "../../shared/contract/problems.ts";
import type { Query } from "../../shared/pql/ast.ts";
import { refusePql12, usesPql12 } from "../../shared/pql/version.ts";
import { readFlag, type FlagMemory, type FlagParts } from "./flag-memory.ts";

export interface GrammarParts extends FlagParts {
  readonly clock: Clock;
  readonly pqlGrammar: FlagMemory;
}

/** Throws PqlError where the query needs 1.2 and the tenant has 1.1; Problem where the flag cannot be read. */
export async function requireGrammar(parts: GrammarParts, tenantId: string, query: Query, text: string): Promise<void> {
  if (!usesPql12(query)) return;
  const isOn = await readFlag(parts, parts.pqlGrammar, tenantId, "pql_v1_2", parts.clock());
  if (isOn === null) throw new Problem("database_unavailable", "The tenant's flags cannot be read now.");
  if (!isOn) refusePql12(query, text);
}
