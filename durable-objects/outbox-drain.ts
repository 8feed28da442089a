// Drains one shard of the Postgres outbox into its queue: at once after a nudge, else by alarm. Named by the shard's
// number. The decision is shared/outbox/drain.ts; here are the hands and the clock.

import { DurableObject } from "cloudflare:workers";
import type { Log } from "../shared/contract/ports.ts";
import { drainOnce, errorName, type DrainPort } from "../shared/outbox/drain.ts";

/** Between alarms while rows came within `activeMs`: the lag that a lost nudge costs. */
const busyAlarmMs = 1_000;
/** Between alarms when nothing came for a while: an idle shard costs 8,640 alarms a day. */
const idleAlarmMs = 10_000;
const activeMs = 60_000;
/**
 * A pass that found so many rows is followed by a rest: under load a pass costs about the same with five times the rows. A run
 * or two at a time are far below it, and wait for nothing.
 */
const loadedRows = 25;
const restMs = 50;

export interface OutboxDrainParts {
  readonly port: (shard: number) => DrainPort;
  readonly clock: () => number;
  /** Resolves after so many milliseconds. */
  readonly rest: (ms: number) => Promise<void>;
  readonly log: Log;
}

export function outboxDrainObject<Env>(compose: (env: Env) => OutboxDrainParts) {
  return class OutboxDrain extends DurableObject<Env> {
    readonly #parts: OutboxDrainParts;
    #running: Promise<void> | null = null;
    #nudged = false;
    #lastEventAt = 0;
    #restUntil = 0;
    /** The alarm that this instance set last; 0 where it does not know. */
    #alarmAt = 0;

    constructor(state: DurableObjectState, env: Env) {
      super(state, env);
      this.#parts = compose(env);
    }

    /** Rows were committed: drain now. Nudges that come while a drain runs are answered by one more pass of it. */
    async nudge(): Promise<void> {
      this.#lastEventAt = this.#parts.clock();
      await this.#arm(this.#lastEventAt, busyAlarmMs);
      await this.#drain();
    }

    /** The cron's call: makes sure that an alarm is set, even where one was lost. */
    async sweep(): Promise<void> {
      if ((await this.ctx.storage.getAlarm()) === null) await this.ctx.storage.setAlarm(this.#parts.clock());
    }

    override async alarm(): Promise<void> {
      // Re-armed first: whatever happens below, there is a next time.
      const now = this.#parts.clock();
      this.#alarmAt = 0;
      await this.#arm(now, now - this.#lastEventAt < activeMs ? busyAlarmMs : idleAlarmMs);
      await this.#drain();
    }

    /** An alarm that comes soon enough is left standing: setting one is a durable write, and nudges come by the dozen. */
    async #arm(now: number, withinMs: number): Promise<void> {
      if (this.#alarmAt > now && this.#alarmAt <= now + withinMs) return;
      await this.ctx.storage.setAlarm(now + withinMs);
      this.#alarmAt = now + withinMs;
    }

    async #drain(): Promise<void> {
      this.#nudged = true;
      this.#running ??= this.#passes().finally(() => {
        this.#running = null;
      });
      await this.#running;
    }

    async #passes(): Promise<void> {
      const shard = Number(this.ctx.id.name);
      const port = this.#parts.port(shard);
      let full = false;
      while (this.#nudged || full) {
        // A clock that went back must not make it a long one.
        const rest = Math.min(restMs, this.#restUntil - this.#parts.clock());
        if (rest > 0) await this.#parts.rest(rest);
        this.#nudged = false;
        try {
          const drained = await drainOnce(port);
          full = drained.full;
          if (drained.events > 0) this.#lastEventAt = this.#parts.clock();
          this.#restUntil = drained.events >= loadedRows && !full ? this.#parts.clock() + restMs : 0;
        } catch (error) {
          // The rows wait in the outbox; the alarm that was set before comes back for them.
          this.#lastEventAt = this.#parts.clock();
          this.#parts.log("warn", "outbox drain failed, will try again", { shard, error: errorName(error) });
          return;
        }
      }
    }
  };
}
