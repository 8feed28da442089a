// The rotations of one kind of keys, one after the other: prepare → published → acknowledged → active → tainted → verified →
// revoked; or → cancelling → cancelled, while the new keys sign nothing. A step goes on when its condition was observed, never because time has passed. Called by
// durable-objects/key-rotation.ts, whose SQLite and alarm it works with; what the steps do is the kind's RotationTarget.
//
// What stands where after a crash at each await; the alarm, or whoever asks next, goes on from there:
//   start, propose, approve, acknowledge,
//   cancel, consumers added and removed            one transaction each, with its event and its intent: all of it or none
//   propose: what it breaks looked at      nothing
//   prepare: keys made                     in their ring, unpublished; made once a rotation, a retry finds the same ones
//   prepare: keys found in part            what was found is kept, or not: then it is found anew, before any state was entered
//   prepare: published                     published, and this object does not know it yet: published again, which changes nothing
//   published: consumers looked at         nothing
//   acknowledged: activated                the new keys sign; the state follows with the retry
//   active: tainted                        marked; the same
//   tainted: verified                      what was signed anew stays so; a retry signs the rest
//   verified: revoked                      destroyed, and not believed where compromised; the state follows with the retry
//   cancelling: keys withdrawn             they never sign, and the slots are free; the state follows with the retry
//   any transaction of a state             the state, its time and its event, or none of them

import {
  endStates,
  rotationsListed,
  rotationStates,
  type EmergencyProposal,
  type NamedConsumer,
  type Rotation,
  type RotationState,
} from "../contract/http-rotations.ts";
import { newId } from "../contract/ids.ts";
import type { Log } from "../contract/ports.ts";
import { errorName } from "../outbox/drain.ts";
import { Consumers } from "./consumers.ts";
import { Emergencies } from "./emergencies.ts";
import {
  isCancelled,
  isRunning,
  keysOf,
  noSuch,
  RotationLedger,
  type ConsumerAnswer,
  type LedgerParts,
  type ProposalAnswer,
  type RotationAnswer,
  type RotationCall,
  type RotationRow,
} from "./rotation-ledger.ts";
import type { RotationCounts } from "./rotation-metrics.ts";
import type { KeyReference } from "./service.ts";
import type { RotationTarget } from "./target.ts";

/** After a step that failed, or whose condition does not hold yet, it is looked at again: in ms. */
const againMs = 2_000;
/** A step that keeps failing is tried ever more rarely, up to here. */
const againMaxMs = 60_000;
const obstacleLengthMax = 500;

export interface RotationsParts extends LedgerParts {
  readonly log: Log;
  /** `tenantId`: who started the rotation, and in whose name the target works. */
  readonly target: (tenantId: string) => RotationTarget;
}

function after(state: RotationState): RotationState {
  const order: readonly RotationState[] = rotationStates;
  return order[order.indexOf(state) + 1]!;
}

export class Rotations {
  readonly #parts: RotationsParts;
  readonly #ledger: RotationLedger;
  readonly #consumers: Consumers;
  readonly #emergencies: Emergencies;
  /** The step that is under way, and what waits behind it. */
  #queue: Promise<unknown> = Promise.resolve();

  constructor(parts: RotationsParts) {
    this.#parts = parts;
    this.#ledger = new RotationLedger(parts);
    this.#consumers = new Consumers(this.#ledger);
    this.#emergencies = new Emergencies(this.#ledger, parts.target);
  }

  /** Begins one; `advance` takes it on. Refused while one runs. */
  start({ tenant_id, principal, intent }: RotationCall): RotationAnswer {
    const now = this.#parts.clock();
    return this.#ledger.sql.transaction((): RotationAnswer => {
      const known = intent === null ? undefined : this.#ledger.rows("where intent = ?", intent)[0];
      if (known !== undefined) return this.#ledger.answer(known.id);
      const [running] = this.#ledger.running();
      if (running !== undefined) return isRunning(running);
      return this.#ledger.answer(
        this.#ledger.begin(newId("rotation", now, this.#parts.random(10)), tenant_id, principal, intent, now),
      );
    });
  }

  propose(call: RotationCall, reason: string, wanted: readonly KeyReference[] | null): Promise<ProposalAnswer> {
    return this.#emergencies.propose(call, reason, wanted);
  }

  /** `approved`: the digest of the proposal that was read. Who approves is not who proposed it: that is decided before this is called. */
  approve(call: RotationCall, id: string, approved: string): Promise<RotationAnswer> {
    return this.#serially(() => Promise.resolve(this.#emergencies.approve(call, id, approved)));
  }

  /** Behind the step that is under way: so none is, and what stands is how far the steps came. */
  cancel(call: RotationCall, id: string): Promise<RotationAnswer> {
    return this.#serially(() => Promise.resolve(this.#cancel(call, id)));
  }

  #cancel({ tenant_id, principal }: RotationCall, id: string): RotationAnswer {
    const now = this.#parts.clock();
    return this.#ledger.sql.transaction((): RotationAnswer => {
      const [row] = this.#ledger.rows("where id = ?", id);
      if (row === undefined) return noSuch;
      if (isCancelled(row)) return this.#ledger.answer(id);
      const obstacle = this.#uncancellable(row);
      if (obstacle !== null) return { ok: false, code: "rotation_state", detail: obstacle };
      this.#ledger.enter(id, "cancelling", now);
      this.#emergencies.forget(id);
      this.#ledger.tell({ ...row, tenant_id }, principal, "cancelling", now, []);
      return this.#ledger.answer(id);
    });
  }

  /** Null: it can be taken back. */
  #uncancellable({ id, tenant_id: tenantId, state, approved_by: approvedBy }: RotationRow): string | null {
    if (state === "revoked") return `${id} has ended.`;
    if (approvedBy !== null) return `${id} is an emergency, which two persons decided: it goes to its end.`;
    if (this.#parts.target(tenantId).cancellable.includes(state)) return null;
    return `${id} is ${state}: its new keys sign, or may by now. It goes to its end; start another one then.`;
  }

  acknowledge(call: RotationCall, id: string, consumer: string, kids: readonly string[]): RotationAnswer {
    return this.#consumers.acknowledge(call, id, consumer, kids);
  }

  addConsumer(call: RotationCall, name: string): ConsumerAnswer {
    return this.#consumers.add(call, name);
  }

  removeConsumer(call: RotationCall, name: string): ConsumerAnswer {
    return this.#consumers.remove(call, name);
  }

  proposal(id: string): EmergencyProposal | null {
    return this.#emergencies.proposal(id);
  }

  /** Takes what runs as far as it goes. Never throws for a step that failed: that is noted, and tried again. */
  async advance(): Promise<void> {
    for (const { id } of this.#ledger.running()) await this.#advanceOne(id);
  }

  /** Step by step: what would change its course comes in between. */
  async #advanceOne(id: string): Promise<void> {
    // As many turns as there are states.
    for (const _ of rotationStates) if (!(await this.#serially(() => this.#stepOf(id)))) return;
  }

  async #stepOf(id: string): Promise<boolean> {
    const [row] = this.#ledger.rows("where id = ?", id);
    return row !== undefined && !endStates.includes(row.state) && (await this.#step(row));
  }

  /** Has `advance` look now, however long the last failure asked to wait. */
  resume(id: string): RotationAnswer {
    this.#ledger.sql.exec("update rotations set again_at = 0 where id = ?", id);
    return this.show(id);
  }

  show(id: string): RotationAnswer {
    return this.#ledger.rows("where id = ?", id).length === 0 ? noSuch : this.#ledger.answer(id);
  }

  list(): {
    readonly rotations: Rotation[];
    readonly consumers: NamedConsumer[];
    readonly proposals: EmergencyProposal[];
  } {
    return {
      rotations: this.#ledger.rows(`order by n desc limit ${rotationsListed}`).map((row) => this.#ledger.shown(row)),
      consumers: this.#ledger.named(),
      proposals: this.#emergencies.list(),
    };
  }

  /** Of those that the tenant started: how many, and how many of them ended, by how they ended. */
  counts(tenantId: string): RotationCounts["counts"] {
    const [row] = this.#ledger.sql.exec<{ started: number; completed: number; emergency: number; cancelled: number }>(
      `select count(*) as started, coalesce(sum(state = 'revoked' and approved_by is null), 0) as completed,
         coalesce(sum(state = 'revoked' and approved_by is not null), 0) as emergency,
         coalesce(sum(state = 'cancelled'), 0) as cancelled
       from rotations where tenant_id = ?`,
      tenantId,
    );
    const { started, completed, emergency, cancelled } = row!;
    return { started, completed, emergency, cancelled };
  }

  /** When `advance` has something to do; null while no rotation runs. */
  nextDue(): number | null {
    const running = this.#ledger.running();
    if (running.length === 0) return null;
    return Math.max(Math.min(...running.map(({ again_at: at }) => at)), this.#parts.clock());
  }

  /** Whether it went on: false where its condition does not hold yet, or it failed. */
  async #step(row: RotationRow): Promise<boolean> {
    const { clock, log } = this.#parts;
    try {
      const obstacle = await this.#effect(row);
      if (obstacle === null) return true;
      this.#note(row.id, obstacle, 0, clock() + this.#lookAgainMs(row));
    } catch (error) {
      const failures = row.failures + 1;
      const waitMs = Math.min(againMaxMs, againMs * 2 ** Math.min(10, failures - 1));
      log("error", "a rotation of keys failed in a step, and will be tried again", {
        ...this.#parts.rotated,
        rotation_id: row.id,
        state: row.state,
        error: errorName(error),
        detail: error instanceof Error ? error.message.slice(0, obstacleLengthMax) : "",
      });
      this.#note(row.id, `the step after ${row.state} failed (${errorName(error)})`, failures, clock() + waitMs);
    }
    return false;
  }

  #lookAgainMs(row: RotationRow): number {
    const since = this.#ledger.sql.exec<{ at: number }>(
      "select max(at) as at from transitions where rotation = ?",
      row.id,
    )[0]!.at;
    return this.#parts.target(row.tenant_id).lookAgainMs?.(this.#parts.clock() - since) ?? againMs;
  }

  /** The state's work, and the next state; or why not yet. */
  async #effect(row: RotationRow): Promise<string | null> {
    const target = this.#parts.target(row.tenant_id);
    const compromised = row.approved_by !== null;
    if (row.state === "cancelling") {
      const withdrawn = await target.withdraw(row.id);
      const keys = withdrawn === null || withdrawn.new.length === 0 ? row.keys : JSON.stringify(withdrawn);
      return this.#goOn(row, { ...row, keys }, "cancelled");
    }
    if (row.state === "prepare") {
      const keys = await target.prepare(row.id, keysOf(row), compromised);
      if ("obstacle" in keys) {
        if (keys.found !== null)
          this.#ledger.sql.exec("update rotations set keys = ? where id = ?", JSON.stringify(keys.found), row.id);
        return keys.obstacle;
      }
      return (await target.publish(row.id, keys)) ?? this.#goOn(row, { ...row, keys: JSON.stringify(keys) });
    }
    const keys = keysOf(row)!;
    switch (row.state) {
      case "published": {
        const builtIn = await target.consumers(keys, compromised);
        this.#ledger.sql.exec("update rotations set built_in = ? where id = ?", JSON.stringify(builtIn), row.id);
        // Read anew: someone may have acknowledged meanwhile.
        const now = this.#ledger.rows("where id = ?", row.id)[0]!;
        const waiting = this.#ledger.waitingFor(now);
        const isBlocked = now.approved_by === null ? waiting.length > 0 : builtIn.some(({ holds }) => !holds);
        return isBlocked ? `waiting for ${waiting.join(", ")}` : this.#goOn(row, now);
      }
      case "acknowledged":
        return (await target.activate(row.id, keys, compromised)) ?? this.#goOn(row, row);
      case "active":
        return (await target.taint(row.id, keys)) ?? this.#goOn(row, row);
      case "tainted": {
        const missing = await target.verify(row.id, keys, compromised);
        return missing ?? this.#goOn(row, row);
      }
      case "verified": {
        // It may have become an emergency since it was verified: then there is more to sign.
        const missing = compromised ? await target.verify(row.id, keys, true) : null;
        if (missing !== null) return missing;
        return (await target.revoke(row.id, keys, compromised)) ?? this.#goOn(row, row);
      }
      default:
        return null;
    }
  }

  /** State, time and event in one transaction. */
  #goOn(from: RotationRow, row: RotationRow, state: RotationState = after(from.state)): null {
    const now = this.#parts.clock();
    this.#ledger.sql.transaction(() => {
      this.#ledger.sql.exec("update rotations set keys = ? where id = ?", row.keys, row.id);
      this.#ledger.enter(row.id, state, now);
      if (state === "active") this.#emergencies.forgetOvertaken(row.id);
      if (state === "revoked") this.#emergencies.forget(row.id);
      this.#ledger.tell(
        row,
        null,
        state,
        now,
        this.#ledger.consumers(row).flatMap(({ name, acknowledged_at: at }) => (at === null ? [] : [name])),
      );
    });
    return null;
  }

  #note(id: string, obstacle: string, failures: number, againAt: number): void {
    this.#ledger.sql.exec(
      "update rotations set obstacle = ?, failures = ?, again_at = ? where id = ?",
      obstacle.slice(0, obstacleLengthMax),
      failures,
      againAt,
      id,
    );
  }

  /** One after the other: a step, and what would change its course. */
  #serially<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#queue.then(work);
    this.#queue = done.catch(() => undefined);
    return done;
  }
}
