// A tenant's EdgeHealth: hands and alarm around shared/edge/fleet-board.ts. Named by the tenant's id. The board is itty-durable's: it
// loads an object's fields and keeps them as one value; only the events of the fleet have tables of their own.
//
// The board is kept by alarm, 5 s after a change at the latest: not in the way of a report, since a fetcher says everything anew
// every 10 s. What stands where after a crash:
//
// | the crash comes …                          | a restart finds                          | and does                                        |
// |--------------------------------------------|------------------------------------------|-------------------------------------------------|
// | before an event's transaction              | the old board, nothing told              | is told with the next report                    |
// | after it, before the board is kept         | the event in the outbox; the old board   | has the report with the next one; no 2nd event  |
// | before the alarm that keeps it was set     | the old board                            | has it with the next report, which sets one     |
// | before or while the board is put           | the old board, whole                     | the alarm comes again, and keeps what came since |
// | after the put, before the outbox is sent   | the new board, events in the outbox      | the alarm comes again, and sends                |
// | after the send, before the rows are gone   | the same                                 | sends again; the log knows the events' ids      |
// | while one is forgotten, before the event   | the old board                            | a retry forgets it                              |
// | … after the event, before the board is put | the event; the instance still there      | shows it, silent: forgetting it again ends it   |
//
// What a crash can lose: counters of a boot that began and ended within those 5 s. No decision is made by them.

import { DurableObject } from "cloudflare:workers";
// By its file: the package's main file is CommonJS around modules.
import { createDurable } from "itty-durable/itty-durable.js";
import type { EdgeReport } from "../shared/contract/http-edge.ts";
import type { Log, Random } from "../shared/contract/ports.ts";
import { emptyBoard, FleetBoard, type BoardState, type FleetPort } from "../shared/edge/fleet-board.ts";
import { FleetEvents } from "../shared/edge/fleet-events.ts";
import { drainAll, type DrainPort } from "../shared/outbox/drain.ts";
import { objectOutbox, outboxWaits } from "../shared/outbox/object-outbox.ts";
import type { EventContext } from "../shared/outbox/outbox.ts";
import { sqlOf } from "./sql.ts";

const keepMs = 5_000;
const retryMs = 1_000;

export interface EdgeHealthParts {
  readonly clock: () => number;
  readonly random: Random;
  readonly log: Log;
  readonly send: (tenantId: string) => DrainPort["send"];
}

/** Its public fields are what is kept. It gets the storage alone: what it is given it writes on, and it offers all of it as properties. */
class KeptBoard extends createDurable() implements BoardState {
  instances = emptyBoard().instances;
  gone = emptyBoard().gone;
}

export function edgeHealthObject<Env>(compose: (env: Env) => EdgeHealthParts) {
  return class EdgeHealth extends DurableObject<Env> implements FleetPort {
    readonly #parts: EdgeHealthParts;
    readonly #tenantId: string;
    readonly #kept: KeptBoard;
    readonly #board: FleetBoard;
    readonly #events: FleetEvents;
    #isKept = true;

    constructor(state: DurableObjectState, env: Env) {
      super(state, env);
      if (state.id.name === undefined) throw new Error("an EdgeHealth object is named by its tenant's id");
      this.#tenantId = state.id.name;
      this.#parts = compose(env);
      this.#events = new FleetEvents(sqlOf(state.storage));
      this.#kept = new KeptBoard({ storage: state.storage });
      this.#board = new FleetBoard(this.#kept);
      void state.blockConcurrencyWhile(() => this.#kept.loadFromStorage());
    }

    async report(principal: string, report: EdgeReport) {
      const now = this.#parts.clock();
      const noted = this.#board.note(principal, report, now);
      if (noted.outcome !== "noted") return noted;
      const context = this.#context(principal, now);
      this.#events.left(noted.left);
      this.#events.tell(context, report.instance, noted.totals.providers);
      await this.#keepSoon();
      return noted;
    }

    async view() {
      return this.#board.view();
    }

    async forget(principal: string, instance: string, intent: string | null) {
      const now = this.#parts.clock();
      if (this.#events.knows(intent, now)) return true;
      if (!this.#board.forget(instance)) return false;
      this.#events.forgotten(this.#context(principal, now), instance, intent);
      await this.ctx.storage.setAlarm(now);
      await this.#keep();
      return true;
    }

    #context(principal: string, now: number): EventContext {
      return { tenant_id: this.#tenantId, principal, source: "fleet", now, random: this.#parts.random };
    }

    override async alarm(): Promise<void> {
      await this.ctx.storage.setAlarm(this.#parts.clock() + retryMs);
      if (!this.#isKept) await this.#keep();
      const sql = sqlOf(this.ctx.storage);
      const { log, send, clock } = this.#parts;
      await drainAll(objectOutbox(sql, send(this.#tenantId)), log, { tenant_id: this.#tenantId });
      if (outboxWaits(sql)) await this.ctx.storage.setAlarm(clock() + retryMs);
      else if (this.#isKept) await this.ctx.storage.deleteAlarm();
      else await this.ctx.storage.setAlarm(clock() + keepMs);
    }

    /** What is reported while it is put is kept the next time. */
    async #keep(): Promise<void> {
      this.#isKept = true;
      try {
        await this.#kept.persist();
      } catch (error) {
        this.#isKept = false;
        throw error;
      }
    }

    async #keepSoon(): Promise<void> {
      if (!this.#isKept) return;
      this.#isKept = false;
      await this.ctx.storage.setAlarm(this.#parts.clock() + (outboxWaits(sqlOf(this.ctx.storage)) ? 0 : keepMs));
    }
  };
}
