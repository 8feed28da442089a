// The anchor of all tenants' logs: hands around shared/audit/anchor.ts. There is one; it lives in the audit worker's
// script, and the worker's cron is its clock.

import { DurableObject } from "cloudflare:workers";
import { Anchor, type AnchorParts } from "../shared/audit/anchor.ts";
import type { LogAnchorApi } from "../shared/audit/service.ts";
import { sqlOf } from "./sql.ts";

export type LogAnchorParts = Omit<AnchorParts, "sql">;

/** The name of the one object. */
export const anchorName = "anchor";

export function logAnchorObject<Env>(compose: (env: Env) => LogAnchorParts) {
  return class LogAnchor extends DurableObject<Env> implements LogAnchorApi {
    readonly #anchor: Anchor;

    constructor(state: DurableObjectState, env: Env) {
      super(state, env);
      if (state.id.name !== anchorName) throw new Error(`there is one LogAnchor, named ${anchorName}`);
      this.#anchor = new Anchor({ ...compose(env), sql: sqlOf(state.storage) });
    }

    collect() {
      return this.#anchor.collect();
    }

    cosign() {
      return this.#anchor.cosign();
    }

    anchorings(tenantId: string) {
      return this.#anchor.anchorings(tenantId);
    }
  };
}
