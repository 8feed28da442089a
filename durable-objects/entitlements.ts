// A tenant's entitlements: the one writer and the cache in front of Postgres (shared/market/entitlements.ts). Named by
// the tenant's id; it keeps nothing of its own, so losing it loses nothing.

import { DurableObject } from "cloudflare:workers";
import { entitlementStore } from "../shared/market/entitlement-store.ts";
import {
  EntitlementQueue,
  type ChangeStep,
  type EntitlementPut,
  type EntitlementsPort,
  type FlagPut,
} from "../shared/market/entitlements.ts";
import type { Database } from "../shared/tenancy/database.ts";
import type { Random } from "../shared/contract/ports.ts";

export interface EntitlementsParts {
  readonly database: Database;
  readonly shards: number;
  readonly clock: () => number;
  readonly random: Random;
}

/** The class for a script whose compose.ts says where the parts come from. */
export function entitlementsObject<Env>(compose: (env: Env) => EntitlementsParts) {
  return class Entitlements extends DurableObject<Env> implements EntitlementsPort {
    readonly #queue: EntitlementQueue;

    constructor(state: DurableObjectState, env: Env) {
      super(state, env);
      const { database, shards, clock, random } = compose(env);
      const tenantId = state.id.name;
      if (tenantId === undefined) throw new Error("an Entitlements object is named by its tenant's id");
      this.#queue = new EntitlementQueue(entitlementStore(database, tenantId, shards), clock, random);
    }

    check(packageName: string) {
      return this.#queue.check(packageName);
    }

    list() {
      return this.#queue.list();
    }

    flags() {
      return this.#queue.flags();
    }

    put(request: EntitlementPut) {
      return this.#queue.put(request);
    }

    putFlag(request: FlagPut) {
      return this.#queue.putFlag(request);
    }

    stepChange(request: ChangeStep) {
      return this.#queue.stepChange(request);
    }
  };
}
