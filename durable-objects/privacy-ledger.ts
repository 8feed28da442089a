// A tenant's privacy ledger: hands and alarm around shared/privacy/ledger.ts. Named by the tenant's id. Its alarm drains
// its outbox, and asks Postgres about reservations whose lease has ended.

import { DurableObject } from "cloudflare:workers";
import type { Log, Random } from "../shared/contract/ports.ts";
import { resolveLease, type LeaseQuestion } from "../shared/executions/lease.ts";
import { drainOnce, type DrainPort } from "../shared/outbox/drain.ts";
import { objectOutbox, outboxWaits } from "../shared/outbox/object-outbox.ts";
import type { EventContext } from "../shared/outbox/outbox.ts";
import { Ledger, type LedgerPort, type ReserveRequest } from "../shared/privacy/ledger.ts";
import { sqlOf } from "./sql.ts";

const retryMs = 1_000;
const leasesPerAlarm = 100;

export interface PrivacyLedgerParts {
  readonly clock: () => number;
  readonly random: Random;
  readonly log: Log;
  readonly send: (tenantId: string) => DrainPort["send"];
  readonly question: (tenantId: string) => LeaseQuestion;
}

export function privacyLedgerObject<Env>(compose: (env: Env) => PrivacyLedgerParts) {
  return class PrivacyLedger extends DurableObject<Env> implements LedgerPort {
    readonly #parts: PrivacyLedgerParts;
    readonly #ledger: Ledger;
    readonly #tenantId: string;

    constructor(state: DurableObjectState, env: Env) {
      super(state, env);
      if (state.id.name === undefined) throw new Error("a PrivacyLedger is named by its tenant's id");
      this.#tenantId = state.id.name;
      this.#parts = compose(env);
      this.#ledger = new Ledger(sqlOf(state.storage));
    }

    async balance() {
      return this.#ledger.balance(this.#parts.clock());
    }

    async configure(principal: string, limitUnits: number, leakUnitsPerHour: number) {
      return this.#thenWake(this.#ledger.configure(this.#context(principal), limitUnits, leakUnitsPerHour));
    }

    async reserve(principal: string, request: ReserveRequest) {
      return this.#thenWake(this.#ledger.reserve(this.#context(principal), request));
    }

    async settle(executionId: string) {
      return this.#thenWake(this.#ledger.settle(this.#context(null), executionId));
    }

    override async alarm(): Promise<void> {
      const now = this.#parts.clock();
      await this.ctx.storage.setAlarm(now + retryMs);
      const question = this.#parts.question(this.#tenantId);
      for (const due of this.#ledger.due(now, leasesPerAlarm)) {
        await resolveLease(this.#ledger, question, this.#context(null), due);
      }
      const outbox = objectOutbox(sqlOf(this.ctx.storage), this.#parts.send(this.#tenantId));
      let outboxRetryMs = 0;
      try {
        while ((await drainOnce(outbox)).full);
      } catch (error) {
        outboxRetryMs = retryMs;
        this.#parts.log("warn", "ledger outbox drain failed, will try again", {
          tenant_id: this.#tenantId,
          error: error instanceof Error ? error.name : typeof error,
        });
      }
      await this.#schedule(outboxRetryMs);
    }

    /** The change is durable; what follows from it (events, leases) is the alarm's. */
    async #thenWake<T>(result: T): Promise<T> {
      await this.#schedule();
      return result;
    }

    /** One alarm serves both duties, events that wait and leases that end: it is set to the earlier one. */
    async #schedule(outboxRetryMs = 0): Promise<void> {
      const now = this.#parts.clock();
      const lease = this.#ledger.nextLease(now);
      const next = outboxWaits(sqlOf(this.ctx.storage)) ? Math.min(now + outboxRetryMs, lease ?? Infinity) : lease;
      if (next === null) return await this.ctx.storage.deleteAlarm();
      await this.ctx.storage.setAlarm(Math.max(next, now));
    }

    #context(principal: string | null): EventContext {
      const { clock, random } = this.#parts;
      return { tenant_id: this.#tenantId, principal, source: "privacy", now: clock(), random };
    }
  };
}
