// Rotations of one kind of keys: hands and alarm around shared/rotation/rotations.ts, which opens with the recovery table. Named by
// the kind; of a trust domain's authority by `fetcher:`, the tenant that states it, `:` and the domain. Its alarm takes a running rotation on, and drains the outbox.

import { DurableObject } from "cloudflare:workers";
import { rotationKind, type Rotated } from "../shared/contract/http-rotations.ts";
import { drainAll, type DrainPort } from "../shared/outbox/drain.ts";
import { objectOutbox, objectOutboxSchema, outboxWaits } from "../shared/outbox/object-outbox.ts";
import type { RotationsPort } from "../shared/rotation/port.ts";
import type { RotationAnswer, RotationCall } from "../shared/rotation/rotation-ledger.ts";
import { Rotations, type RotationsParts } from "../shared/rotation/rotations.ts";
import type { KeyReference } from "../shared/rotation/service.ts";
import type { RotationTarget } from "../shared/rotation/target.ts";
import { sqlOf } from "./sql.ts";

const retryMs = 1_000;
/** How long a call waits for the steps that it set off; they go on by themselves. */
const answerMs = 8_000;

export interface KeyRotationParts extends Pick<RotationsParts, "clock" | "random" | "log" | "sha256"> {
  readonly pause: (ms: number) => Promise<void>;
  readonly send: DrainPort["send"];
  readonly target: (rotated: Rotated, tenantId: string) => RotationTarget;
}

/** What the object of a trust domain's authority is called. */
export const authorityRotationName = (tenantId: string, trustDomain: string): string =>
  `fetcher:${tenantId}:${trustDomain}`;

function rotatedOf(name: string | undefined): Rotated {
  const [, trustDomain] = /^fetcher:[0-9a-f-]{36}:(.+)$/.exec(name ?? "") ?? [];
  return trustDomain === undefined
    ? { kind: rotationKind.parse(name), trust_domain: null }
    : { kind: "fetcher", trust_domain: trustDomain };
}

export function keyRotationObject<Env>(compose: (env: Env) => KeyRotationParts) {
  return class KeyRotation extends DurableObject<Env> implements RotationsPort {
    readonly #parts: KeyRotationParts;
    readonly #rotations: Rotations;
    readonly #rotated: Rotated;

    constructor(state: DurableObjectState, env: Env) {
      super(state, env);
      this.#rotated = rotatedOf(state.id.name);
      this.#parts = compose(env);
      const sql = sqlOf(state.storage);
      sql.exec(objectOutboxSchema);
      const { clock, random, log, sha256, target } = this.#parts;
      const rotated = this.#rotated;
      const targetOf = (tenantId: string): RotationTarget => target(rotated, tenantId);
      this.#rotations = new Rotations({ sql, clock, random, log, sha256, rotated, target: targetOf });
    }

    async list() {
      return this.#rotations.list();
    }

    async show(id: string) {
      return this.#rotations.show(id);
    }

    async proposal(id: string) {
      return this.#rotations.proposal(id);
    }

    async counts(tenantId: string) {
      return this.#rotations.counts(tenantId);
    }

    async start(call: RotationCall) {
      return await this.#thenAdvance(this.#rotations.start(call));
    }

    async propose(call: RotationCall, reason: string, wanted: readonly KeyReference[] | null) {
      const answer = await this.#rotations.propose(call, reason, wanted);
      await this.#schedule();
      return answer;
    }

    async approve(call: RotationCall, id: string, approved: string) {
      return await this.#thenAdvance(await this.#rotations.approve(call, id, approved));
    }

    async cancel(call: RotationCall, id: string) {
      return await this.#thenAdvance(await this.#rotations.cancel(call, id));
    }

    async acknowledge(call: RotationCall, id: string, consumer: string, kids: readonly string[]) {
      return await this.#thenAdvance(this.#rotations.acknowledge(call, id, consumer, kids));
    }

    async resume(id: string) {
      return await this.#thenAdvance(this.#rotations.resume(id));
    }

    async addConsumer(call: RotationCall, name: string) {
      const answer = this.#rotations.addConsumer(call, name);
      await this.#schedule();
      return answer;
    }

    async removeConsumer(call: RotationCall, name: string) {
      const answer = this.#rotations.removeConsumer(call, name);
      await this.#schedule();
      return answer;
    }

    override async alarm(): Promise<void> {
      await this.ctx.storage.setAlarm(this.#parts.clock() + retryMs);
      const { log, send } = this.#parts;
      await drainAll(objectOutbox(sqlOf(this.ctx.storage), send), log, { kind: this.#rotated.kind });
      await this.#awaited(this.#rotations.advance());
      await this.#schedule(retryMs);
    }

    /** What was asked is durable, and its alarm stands; the caller is told how far it came by then. */
    async #thenAdvance(answer: RotationAnswer): Promise<RotationAnswer> {
      if (!answer.ok) return answer;
      await this.#schedule();
      await this.#awaited(this.#rotations.advance());
      await this.#schedule();
      return this.#rotations.show(answer.rotation.id);
    }

    async #awaited(work: Promise<void>): Promise<void> {
      this.ctx.waitUntil(work.then(() => this.#schedule()));
      await Promise.race([work, this.#parts.pause(answerMs)]);
    }

    /** One alarm for all duties, the earliest of them. */
    async #schedule(notBeforeMs = 0): Promise<void> {
      const now = this.#parts.clock();
      const due = this.#rotations.nextDue();
      const next = outboxWaits(sqlOf(this.ctx.storage)) ? Math.min(now, due ?? Infinity) : due;
      if (next === null) return await this.ctx.storage.deleteAlarm();
      await this.ctx.storage.setAlarm(Math.max(next, now + notBeforeMs));
    }
  };
}
