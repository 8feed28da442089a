// Which PQL a tenant may ask: 1.2, or 1.1 where its flag pql_v1_2 is off. Asked for POST /api/pql before anything is read.

import type { Clock } from "../../shared/contract/ports.ts";
import type { EntitlementsPort } from "../../shared/market/entitlements.ts";
import { Problem } from "../../shared/contract/problems.ts";
import type { Query } from "../../shared/pql/ast.ts";
import { refusePql12, usesPql12 } from "../../shared/pql/version.ts";

/** A switch is seen by every isolate within so long; until then a question costs no second round trip. */
const rememberedMsMax = 5_000;
/** Tenants whose flag an isolate remembers; beyond it the one that was read first is forgotten. */
const rememberedMax = 1_000;

/** Tenant → the flag as it was read, and when. Made once an isolate. */
export class GrammarMemory {
  readonly #known = new Map<string, { readonly isOn: boolean; readonly readAt: number }>();

  get(tenantId: string, now: number): boolean | null {
    const known = this.#known.get(tenantId);
    return known !== undefined && now - known.readAt < rememberedMsMax ? known.isOn : null;
  }

  set(tenantId: string, isOn: boolean, now: number): void {
    this.#known.delete(tenantId);
    this.#known.set(tenantId, { isOn, readAt: now });
    for (const oldest of this.#known.keys()) {
      if (this.#known.size <= rememberedMax) break;
      this.#known.delete(oldest);
    }
  }
}

export interface GrammarParts {
  readonly clock: Clock;
  readonly pqlGrammar: GrammarMemory;
  entitlements(tenantId: string): Pick<EntitlementsPort, "flags">;
}

/** Throws PqlError where the query needs 1.2 and the tenant has 1.1; Problem where the flag cannot be read. */
export async function requireGrammar(parts: GrammarParts, tenantId: string, query: Query, text: string): Promise<void> {
  if (!usesPql12(query)) return;
  const now = parts.clock();
  let isOn = parts.pqlGrammar.get(tenantId, now);
  if (isOn === null) {
    const answer = await parts.entitlements(tenantId).flags();
    if (answer.state === "unavailable")
      throw new Problem("database_unavailable", "The tenant's flags cannot be read now.");
    isOn = answer.flags.flags.find(({ flag }) => flag === "pql_v1_2")?.enabled ?? true;
    parts.pqlGrammar.set(tenantId, isOn, now);
  }
  if (!isOn) refusePql12(query, text);
}
