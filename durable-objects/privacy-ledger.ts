// A tenant's privacy ledger: hands and alarm around shared/privacy/ledger.ts. Named by the tenant's id. Its alarm drains
// its outbox, and asks Postgres about reservations whose lease has ended.

import { DurableObject } from "cloudflare:workers";
import type { Log, Random } from "../shared/contract/ports.ts";
import { resolveLease, type LeaseQuestion } from "../shared/executions/lease.ts";
import { drainAll, errorName, type DrainPort } from "../shared/outbox/drain.ts";
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

    async configure(principal: string, limitUnits: number, leakUnitsPerHour: number, intent: string | null) {
      return this.#thenWake(this.#ledger.configure(this.#context(principal), limitUnits, leakUnitsPerHour, intent));
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
      const { log, question, send } = this.#parts;
      const fields = { tenant_id: this.#tenantId };
      const drained = await drainAll(objectOutbox(sqlOf(this.ctx.storage), send(this.#tenantId)), log, fields);
      for (const due of this.#ledger.due(now, leasesPerAlarm)) {
        try {
          if (!(await resolveLease(this.#ledger, question(this.#tenantId), this.#context(null), due))) break;
        } catch (error) {
          // One run that cannot be resolved must not keep the others waiting; its lease was extended.
          log("error", "a lease was not resolved, will ask again", { ...fields, error: errorName(error) });
        }
      }
      await this.#schedule(drained ? 0 : retryMs);
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
