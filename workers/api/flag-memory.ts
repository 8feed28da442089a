// A flag of each tenant as this isolate read it last, so that it is not read with every request. Held in parts.ts for each flag
// that routes ask about.

import type { FlagName } from "../../shared/contract/http-flags.ts";
import type { EntitlementsPort } from "../../shared/market/entitlements.ts";

/** A switch is seen by every isolate within so long; until then a question costs no second round trip. */
const rememberedMsMax = 5_000;
/** Tenants whose flag an isolate remembers; beyond it the one that was read first is forgotten. */
const rememberedMax = 1_000;

/** Tenant → the flag as it was read, and when. Made once an isolate. */
export class FlagMemory {
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

export interface FlagParts {
  entitlements(tenantId: string): Pick<EntitlementsPort, "flags">;
}

/** Null where it cannot be read now. */
export async function readFlag(
  parts: FlagParts,
  memory: Pick<FlagMemory, "get" | "set">,
  tenantId: string,
  name: FlagName,
  now: number,
): Promise<boolean | null> {
  const remembered = memory.get(tenantId, now);
  if (remembered !== null) return remembered;
  const answer = await parts.entitlements(tenantId).flags();
  if (answer.state === "unavailable") return null;
  const isOn = answer.flags.flags.find(({ flag }) => flag === name)?.enabled ?? true;
  memory.set(tenantId, isOn, now);
  return isOn;
}
