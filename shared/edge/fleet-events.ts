// What the log is told of the fleet: an instance that first appears or is forgotten, and a provider that served what was not believed.
// Each once, in one transaction with the note that it was told. Called by durable-objects/edge-health.ts.

import type { Sql } from "../contract/ports.ts";
import { objectOutboxSchema, storeEvent } from "../outbox/object-outbox.ts";
import type { EventContext } from "../outbox/outbox.ts";
import type { ProviderCounts } from "./fleet-board.ts";

/** A provider's mismatches at one instance are told again after so long, where there are more. */
const againMs = 3_600_000;
/** An intent (Idempotency-Key) is known for this long: the window of idempotency. */
const intentWindowMs = 24 * 3_600_000;
/** Events of one tenant: so many at once, and then as many an hour. What was not told is told later. */
export const eventsPerHour = 20;

const schema = `
  ${objectOutboxSchema}
  create table if not exists told (
    instance text not null, provider text not null, mismatches integer not null, at_ms integer not null,
    primary key (instance, provider)
  );
  create table if not exists forgot (intent text primary key, at_ms integer not null);
  create table if not exists budget (only integer primary key check (only = 1), events real not null, at_ms integer not null);
`;

export class FleetEvents {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
    sql.exec(schema);
  }

  /** `providers`: over all boots of the instance. */
  tell(context: EventContext, instance: string, providers: Readonly<Record<string, ProviderCounts>>): void {
    const { now } = context;
    // The instance itself has no provider.
    if (this.#told(instance, "") === null)
      this.#within(now, () => {
        this.#note(instance, "", 0, now);
        storeEvent(this.#sql, context, "mc.edge.instance_appeared", { instance_id: instance, outcome: "appeared" });
      });
    for (const [provider, { mismatches }] of Object.entries(providers)) {
      const told = this.#told(instance, provider);
      if (mismatches <= (told?.mismatches ?? 0) || (told !== null && now - told.at_ms < againMs)) continue;
      this.#within(now, () => {
        this.#note(instance, provider, mismatches, now);
        storeEvent(this.#sql, context, "mc.edge.mismatch_reported", {
          instance_id: instance,
          provider,
          mismatch_count: mismatches,
          outcome: "refused",
        });
      });
    }
  }

  /** They have left: should one come again, it appears again. */
  left(instances: readonly string[]): void {
    for (const instance of instances) this.#sql.exec("delete from told where instance = ?", instance);
  }

  /** Whether that intent was answered within its window. */
  knows(intent: string | null, now: number): boolean {
    this.#sql.exec("delete from forgot where at_ms <= ?", now - intentWindowMs);
    return intent !== null && this.#sql.exec("select 1 as one from forgot where intent = ?", intent).length > 0;
  }

  /** An operator has taken it off the board. */
  forgotten(context: EventContext, instance: string, intent: string | null): void {
    this.#sql.transaction(() => {
      this.left([instance]);
      if (intent !== null) this.#sql.exec("insert into forgot values (?, ?)", intent, context.now);
      storeEvent(this.#sql, context, "mc.edge.instance_forgotten", { instance_id: instance, outcome: "forgotten" });
    });
  }

  #told(instance: string, provider: string): { readonly mismatches: number; readonly at_ms: number } | null {
    const [row] = this.#sql.exec<{ mismatches: number; at_ms: number }>(
      "select mismatches, at_ms from told where instance = ? and provider = ?",
      instance,
      provider,
    );
    return row ?? null;
  }

  #note(instance: string, provider: string, mismatches: number, now: number): void {
    this.#sql.exec(
      `insert into told values (?, ?, ?, ?) on conflict (instance, provider) do update set
         mismatches = excluded.mismatches, at_ms = excluded.at_ms`,
      instance,
      provider,
      mismatches,
      now,
    );
  }

  /** Does the work in a transaction, where the tenant's budget of events has room. */
  #within(now: number, work: () => void): void {
    this.#sql.transaction(() => {
      const [row] = this.#sql.exec<{ events: number; at_ms: number }>("select events, at_ms from budget");
      const earned = row === undefined ? 0 : (Math.max(0, now - row.at_ms) * eventsPerHour) / 3_600_000;
      const events = Math.min(eventsPerHour, (row?.events ?? eventsPerHour) + earned);
      if (events < 1) return;
      this.#sql.exec(
        `insert into budget values (1, ?, ?) on conflict (only) do update set events = excluded.events, at_ms = excluded.at_ms`,
        events - 1,
        now,
      );
      work();
    });
  }
}
