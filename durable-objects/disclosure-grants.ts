// A tenant's quick-link grants: hands and alarm around shared/disclosure/grants.ts. Named by the tenant's id. It lives in
// the audit script, so its events go straight to the tenant's log.

import { DurableObject } from "cloudflare:workers";
import type { Log, Random } from "../shared/contract/ports.ts";
import {
  Grants,
  type GrantAnswer,
  type GrantsPort,
  type GrantUse,
  type NewGrant,
  type RevokedGrant,
} from "../shared/disclosure/grants.ts";
import { drainAll, type DrainPort } from "../shared/outbox/drain.ts";
import { objectOutbox, outboxWaits } from "../shared/outbox/object-outbox.ts";
import type { EventContext } from "../shared/outbox/outbox.ts";
import { sqlOf } from "./sql.ts";

const retryMs = 1_000;

export interface DisclosureGrantsParts {
  readonly clock: () => number;
  readonly random: Random;
  readonly log: Log;
  readonly send: (tenantId: string) => DrainPort["send"];
}

export function disclosureGrantsObject<Env>(compose: (env: Env) => DisclosureGrantsParts) {
  return class DisclosureGrants extends DurableObject<Env> implements GrantsPort {
    readonly #parts: DisclosureGrantsParts;
    readonly #grants: Grants;
    readonly #tenantId: string;

    constructor(state: DurableObjectState, env: Env) {
      super(state, env);
      if (state.id.name === undefined) throw new Error("a DisclosureGrants object is named by its tenant's id");
      this.#tenantId = state.id.name;
      this.#parts = compose(env);
      this.#grants = new Grants(sqlOf(state.storage));
    }

    async grant(principal: string, grant: NewGrant): Promise<void> {
      this.#grants.grant(this.#context(principal), grant);
      await this.ctx.storage.setAlarm(this.#parts.clock());
    }

    async use(grantId: string, use: GrantUse, principal: string | null): Promise<GrantAnswer> {
      const used = this.#grants.use(this.#context(principal), grantId, use);
      await this.ctx.storage.setAlarm(this.#parts.clock());
      return used;
    }

    async revoke(principal: string, grantId: string): Promise<RevokedGrant | null> {
      const revoked = this.#grants.revoke(this.#context(principal), grantId);
      await this.ctx.storage.setAlarm(this.#parts.clock());
      return revoked;
    }

    override async alarm(): Promise<void> {
      const sql = sqlOf(this.ctx.storage);
      if (!outboxWaits(sql)) return;
      await this.ctx.storage.setAlarm(this.#parts.clock() + retryMs);
      const { log, send } = this.#parts;
      await drainAll(objectOutbox(sql, send(this.#tenantId)), log, { tenant_id: this.#tenantId });
    }

    #context(principal: string | null): EventContext {
      const { clock, random } = this.#parts;
      return { tenant_id: this.#tenantId, principal, source: "disclosure", now: clock(), random };
    }
  };
}
