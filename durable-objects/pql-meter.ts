// A tenant's PqlMeter: hands around shared/pql/meter.ts. Named by the tenant's id; it lives in the API's script. The tenant's
// AuditLog object tells it what stands in Postgres, the API asks it before each question.

import { DurableObject } from "cloudflare:workers";
import type { Clock } from "../shared/contract/ports.ts";
import { Meter, type MeterAsk, type MeterLimits, type MeterPort } from "../shared/pql/meter.ts";
import type { CountReport } from "../shared/contract/event-counts.ts";
import { QueryTimes, type QueryTime } from "../shared/pql/query-times.ts";
import { sqlOf } from "./sql.ts";

export interface PqlMeterParts {
  readonly clock: Clock;
  readonly limits: MeterLimits;
}

export function pqlMeterObject<Env>(compose: (env: Env) => PqlMeterParts) {
  return class PqlMeter extends DurableObject<Env> implements MeterPort {
    readonly #clock: Clock;
    readonly #meter: Meter;
    readonly #times: QueryTimes;

    constructor(state: DurableObjectState, env: Env) {
      super(state, env);
      if (state.id.name === undefined) throw new Error("a PqlMeter is named by its tenant's id");
      const { clock, limits } = compose(env);
      this.#clock = clock;
      this.#meter = new Meter(sqlOf(state.storage), limits);
      this.#times = new QueryTimes(sqlOf(state.storage));
    }

    async admit(ask: MeterAsk) {
      return this.#meter.admit(ask, this.#clock());
    }

    async report(report: CountReport) {
      this.#meter.report(report, this.#clock());
    }

    async observe(times: readonly QueryTime[]) {
      this.#times.observe(times);
    }

    async timesText() {
      return this.#times.text();
    }
  };
}
