// A tenant's publisher of edge policies: hands and alarm around shared/edge/publisher.ts, which opens with the recovery table.
// Named by the tenant's id. Its alarm brings out what is not out, signs again what is due, and drains its outbox.

import { DurableObject } from "cloudflare:workers";
import type { PolicyChange } from "../shared/edge/change.ts";
import { Publisher, type PublisherParts } from "../shared/edge/publisher.ts";
import type { PublisherCall, PublisherPort } from "../shared/edge/service.ts";
import type { RootDocument } from "../shared/edge/tuf.ts";
import { drainAll, type DrainPort } from "../shared/outbox/drain.ts";
import { objectOutbox, outboxWaits } from "../shared/outbox/object-outbox.ts";
import { sqlOf } from "./sql.ts";

const retryMs = 1_000;
/**
 * How long a change waits for the providers before it is answered, and an alarm before the next one may come: a store that hangs
 * goes on by itself, and holds up nothing else that the object has to do.
 */
const answerMs = 8_000;

export interface PolicyPublisherParts extends Pick<PublisherParts, "clock" | "random" | "log" | "pause" | "providers"> {
  readonly send: (tenantId: string) => DrainPort["send"];
  readonly ofTenant: (
    tenantId: string,
  ) => Pick<PublisherParts, "vault" | "signTuf" | "tufKeys" | "fetchers" | "trustDocument">;
}

export function policyPublisherObject<Env>(compose: (env: Env) => PolicyPublisherParts) {
  return class PolicyPublisher extends DurableObject<Env> implements PublisherPort {
    readonly #parts: PolicyPublisherParts;
    readonly #publisher: Publisher;
    readonly #tenantId: string;

    constructor(state: DurableObjectState, env: Env) {
      super(state, env);
      if (state.id.name === undefined) throw new Error("a PolicyPublisher is named by its tenant's id");
      this.#tenantId = state.id.name;
      this.#parts = compose(env);
      const { ofTenant, ...parts } = this.#parts;
      const sql = sqlOf(state.storage);
      this.#publisher = new Publisher({ ...parts, ...ofTenant(this.#tenantId), sql, tenantId: this.#tenantId });
    }

    async change(call: PublisherCall, change: PolicyChange) {
      return this.#thenBringOut(await this.#publisher.change(call, change));
    }

    async remove(call: PublisherCall, policy: string) {
      return this.#thenBringOut(await this.#publisher.remove(call, policy));
    }

    async putRoot(call: PublisherCall, tenant: string, root: RootDocument) {
      return this.#thenBringOut(await this.#publisher.putRoot(call, tenant, root));
    }

    async view() {
      return this.#publisher.view();
    }

    async policy(name: string) {
      const found = this.#publisher.policy(name);
      return found === null ? null : { ...found, providers: this.#publisher.providers() };
    }

    async nudgeFetchers() {
      this.#publisher.nudgeFetchers();
      await this.#schedule();
      // Not by the alarm alone: one that is under way may wait for a store that hangs.
      this.#goOn(this.#publisher.catchUp());
    }

    async sweep() {
      await this.#awaited(this.#publisher.sweep());
      await this.#schedule();
    }

    override async alarm(): Promise<void> {
      await this.ctx.storage.setAlarm(this.#parts.clock() + retryMs);
      const { log, send } = this.#parts;
      const outbox = objectOutbox(sqlOf(this.ctx.storage), send(this.#tenantId));
      const drained = await drainAll(outbox, log, { tenant_id: this.#tenantId });
      const isDone = await this.#awaited(this.#publisher.catchUp());
      await this.#schedule(drained ? 0 : retryMs, isDone ? 0 : retryMs);
    }

    /** The change is durable, and its alarm stands; the caller is told what the providers have of it by then. */
    async #thenBringOut<T extends { readonly ok: boolean }>(answer: T): Promise<T> {
      if (!answer.ok) return answer;
      await this.#schedule();
      await this.#awaited(this.#publisher.catchUp());
      await this.#schedule();
      return { ...answer, providers: this.#publisher.providers() };
    }

    /** Whether `work` was done within `answerMs`. What was not goes on, and schedules when it is. */
    async #awaited(work: Promise<void>): Promise<boolean> {
      this.#goOn(work);
      const late = this.#parts.pause(answerMs).then(() => false);
      return await Promise.race([work.then(() => true), late]);
    }

    #goOn(work: Promise<void>): void {
      this.ctx.waitUntil(work.then(() => this.#schedule()));
    }

    /** One alarm for all duties, the earliest of them; `notBeforeMs`: from now on, where work is under way still. */
    async #schedule(outboxRetryMs = 0, notBeforeMs = 0): Promise<void> {
      const now = this.#parts.clock();
      const due = this.#publisher.nextDue();
      const next = outboxWaits(sqlOf(this.ctx.storage)) ? Math.min(now + outboxRetryMs, due ?? Infinity) : due;
      if (next === null) return await this.ctx.storage.deleteAlarm();
      await this.ctx.storage.setAlarm(Math.max(next, now + notBeforeMs));
    }
  };
}
