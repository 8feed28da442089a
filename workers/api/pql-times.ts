// How long questions took, gathered in the isolate and told to the tenants' meters every ten seconds, or once there are as many
// as one call takes: no question waits for it, and a busy tenant's meter is not asked twice for each. Called through parts: by
// the PQL route, and by GET /api/metrics, which tells this isolate's own first. What an isolate that dies has not told is lost:
// ten seconds' times at most.

import { queryTimesMax, type QueryTime } from "../../shared/pql/query-times.ts";

const tellAfterMs = 10_000;
/** Tenants with times to tell; of more of them the times are left out until some were told. */
const tenantsMax = 10_000;

export interface QueryTimeParts {
  /** Goes on with `work` after the answer; it does not reject. */
  later(work: () => Promise<void>): void;
  pause(ms: number): Promise<void>;
  /** To the tenant's meter; what it throws is its caller's to log. */
  tell(tenantId: string, times: readonly QueryTime[]): Promise<void>;
}

export class QueryTimeNotes {
  readonly #parts: QueryTimeParts;
  readonly #waiting = new Map<string, QueryTime[]>();

  constructor(parts: QueryTimeParts) {
    this.#parts = parts;
  }

  note(tenantId: string, time: QueryTime): void {
    const known = this.#waiting.get(tenantId);
    if (known !== undefined) {
      known.push(time);
      if (known.length < queryTimesMax) return;
      this.#waiting.delete(tenantId);
      this.#parts.later(() => this.#parts.tell(tenantId, known));
      return;
    }
    if (this.#waiting.size >= tenantsMax) return;
    this.#waiting.set(tenantId, [time]);
    this.#parts.later(async () => {
      await this.#parts.pause(tellAfterMs);
      await this.tell(tenantId);
    });
  }

  /** Tells now what waits of the tenant; durable when it resolves. What it throws is the teller's, and those times are lost. */
  async tell(tenantId: string): Promise<void> {
    const times = this.#waiting.get(tenantId);
    if (times === undefined) return;
    this.#waiting.delete(tenantId);
    await this.#parts.tell(tenantId, times);
  }
}
