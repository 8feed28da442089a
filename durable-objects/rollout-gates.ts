// A tenant's health gates: an alarm around shared/executions/gate-watch.ts, a second after a run of a rollout has ended, and
// every ten seconds while one is running. Named by the tenant's id; it keeps nothing that it could not read again.

import { DurableObject } from "cloudflare:workers";
import { watchRollouts, type GateParts } from "../shared/executions/gate-watch.ts";
import { errorName } from "../shared/outbox/drain.ts";

const nudgedMs = 1_000;
const runningMs = 10_000;

export interface RolloutGatesParts extends GateParts {
  readonly clock: () => number;
}

/** The class for a script whose compose.ts says where the parts come from. */
export function rolloutGatesObject<Env>(compose: (env: Env) => RolloutGatesParts) {
  return class RolloutGates extends DurableObject<Env> {
    readonly #parts: RolloutGatesParts;
    readonly #tenantId: string;

    constructor(state: DurableObjectState, env: Env) {
      super(state, env);
      if (state.id.name === undefined) throw new Error("a RolloutGates object is named by its tenant's id");
      this.#parts = compose(env);
      this.#tenantId = state.id.name;
    }

    /** A run of a rollout has ended, or a rollout has begun: look soon. */
    async nudge(): Promise<void> {
      await this.#alarmWithin(nudgedMs);
    }

    /** The cron's: an alarm stands, even where one was lost; then it looks soon. */
    async sweep(): Promise<void> {
      if ((await this.ctx.storage.getAlarm()) === null) await this.#alarmWithin(nudgedMs);
    }

    override async alarm(): Promise<void> {
      let running = 1;
      try {
        running = await watchRollouts(this.#parts, this.#tenantId, this.#parts.clock());
      } catch (error) {
        // Postgres is away: the next alarm asks again.
        this.#parts.log("error", "the health gate could not be asked", { error: errorName(error) });
      }
      if (running > 0) await this.#alarmWithin(runningMs);
    }

    async #alarmWithin(ms: number): Promise<void> {
      const due = this.#parts.clock() + ms;
      const standing = await this.ctx.storage.getAlarm();
      if (standing === null || standing > due) await this.ctx.storage.setAlarm(due);
    }
  };
}
