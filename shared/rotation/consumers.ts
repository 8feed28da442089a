// The consumers of a kind of keys that have a name: who is waited for, and their words that they have the new keys. Called by rotations.ts;
// each word is one transaction with its event.

import type { EventAttributes } from "../contract/events.ts";
import { consumersMax } from "../contract/http-rotations.ts";
import { storeUncounted } from "../outbox/object-outbox.ts";
import {
  isCancelled,
  isRunning,
  keysOf,
  noSuch,
  type ConsumerAnswer,
  type RotationAnswer,
  type RotationCall,
  type RotationLedger,
} from "./rotation-ledger.ts";

export class Consumers {
  readonly #ledger: RotationLedger;

  constructor(ledger: RotationLedger) {
    this.#ledger = ledger;
  }

  /** Of a named consumer, by the kids that it has. Refused where these are not the new ones. */
  acknowledge(call: RotationCall, id: string, consumer: string, kids: readonly string[]): RotationAnswer {
    const now = this.#ledger.parts.clock();
    return this.#ledger.sql.transaction((): RotationAnswer => {
      const row = this.#ledger.rows("where id = ?", id)[0];
      if (row === undefined) return noSuch;
      if (!this.#ledger.named().some(({ name }) => name === consumer))
        return { ok: false, code: "not_found", detail: `${consumer} is no consumer of these keys.` };
      if (isCancelled(row))
        return { ok: false, code: "rotation_state", detail: "The rotation was cancelled: its new keys never sign." };
      const wanted = keysOf(row)?.new ?? [];
      if (wanted.length === 0 || row.state === "prepare")
        return { ok: false, code: "rotation_state", detail: "The new keys are not published yet." };
      const missing = wanted.filter(({ kid }) => !kids.includes(kid));
      if (missing.length > 0)
        return {
          ok: false,
          code: "rotation_state",
          detail: `The consumer has not got ${missing.map(({ kid }) => kid).join(", ")}.`,
        };
      const made = this.#ledger.sql.exec(
        "insert or ignore into acknowledgements values (?, ?, ?, ?) returning consumer",
        id,
        consumer,
        call.principal,
        now,
      );
      if (made.length > 0) this.#tellConsumer(call, consumer, "acknowledged", now, id);
      this.#ledger.sql.exec("update rotations set again_at = 0 where id = ?", id);
      return this.#ledger.answer(id);
    });
  }

  add(call: RotationCall, name: string): ConsumerAnswer {
    const now = this.#ledger.parts.clock();
    return this.#ledger.sql.transaction((): ConsumerAnswer => {
      const known = this.#ledger.named();
      if (!known.some((one) => one.name === name)) {
        if (known.length >= consumersMax)
          return { ok: false, code: "rotation_consumers_max", detail: `These keys have ${consumersMax} consumers.` };
        this.#ledger.sql.exec("insert into consumers values (?, ?, ?)", name, call.principal, now);
        this.#tellConsumer(call, name, "added", now);
      }
      return { ok: true, consumer: this.#ledger.named().find((one) => one.name === name)! };
    });
  }

  /** Refused while a rotation waits for it: to go on without it takes an emergency, which takes two persons. */
  remove(call: RotationCall, name: string): ConsumerAnswer {
    return this.#ledger.sql.transaction((): ConsumerAnswer => {
      const known = this.#ledger.named().find((one) => one.name === name);
      if (known === undefined) return { ok: false, code: "not_found", detail: "There is no such consumer." };
      const waiting = this.#ledger.running().find((row) => this.#ledger.waitingFor(row).includes(name));
      if (waiting !== undefined) return isRunning(waiting);
      this.#ledger.sql.exec("delete from consumers where name = ?", name);
      this.#tellConsumer(call, name, "removed", this.#ledger.parts.clock());
      return { ok: true, consumer: known };
    });
  }

  /** In the log of the tenant whose call it was. */
  #tellConsumer(
    { tenant_id, principal }: RotationCall,
    consumer: string,
    outcome: EventAttributes<"mc.key.consumer">["outcome"],
    now: number,
    rotationId: string | null = null,
  ): void {
    const {
      random,
      rotated: { kind, trust_domain },
    } = this.#ledger.parts;
    const context = { tenant_id, principal, source: "rotation", now, random } as const;
    const attributes = {
      kind,
      ...(trust_domain === null ? {} : { trust_domain }),
      consumer,
      outcome,
      rotation_id: rotationId,
    };
    storeUncounted(this.#ledger.sql, context, "mc.key.consumer", attributes);
  }
}
