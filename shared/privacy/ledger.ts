// The ledger of one tenant's privacy budget: reserve → settle or refund, over the SQLite of its object (one writer).
// Called by durable-objects/privacy-ledger.ts. Each change and its audit event are one transaction.
//
// What stands where after a crash in a run's path:
//   reserved, no execution row        the lease ends, Postgres knows no row: refunded
//   reserved, row committed, no answer  a retry with the same key gets the same reservation and execution id
//   finished in Postgres, not settled  the lease ends, Postgres says finished: settled
//   the caller vanished while running  the lease was extended to the run's deadline; then the run expires: settled
//
// Units are integers (micro-epsilon). What was spent leaks away linearly; inside, one unit is 3,600,000 parts, so that a
// leak of whole units an hour is exact to the millisecond. What is left is always rounded down.

import type { Sql } from "../contract/ports.ts";
import { objectOutboxSchema, storeEvent } from "../outbox/object-outbox.ts";
import type { EventContext } from "../outbox/outbox.ts";

const partsPerUnit = 3_600_000;
/** How long a reservation waits for its execution row before Postgres is asked. */
export const leaseMs = 60_000;
/** An execution row is refused once this much of the lease has passed, so that a refund never races a late commit. */
export const admitMs = 30_000;
/** An intent (Idempotency-Key) names the same reservation for this long: the window of idempotency. */
const intentWindowMs = 24 * 3_600_000;
/** Closed reservations are kept this long, then dropped a few at a time. */
const closedKeptMs = 48 * 3_600_000;

const schema = `
  ${objectOutboxSchema}
  create table if not exists budget (
    only integer primary key check (only = 1), limit_units integer not null, leak_units_per_hour integer not null,
    spent_parts integer not null, leaked_at_ms integer not null
  );
  create table if not exists reservation (
    execution_id text primary key, intent text not null, payload_sha256 text not null, units integer not null,
    state text not null check (state in ('held', 'settled', 'refunded')), principal text,
    lease_until_ms integer not null, created_ms integer not null, closed_ms integer
  );
  create table if not exists configured (
    intent text primary key, created_ms integer not null, limit_units integer, leak_units_per_hour integer
  );
  create index if not exists reservation_by_intent on reservation (intent);
  create index if not exists reservation_by_lease on reservation (lease_until_ms) where state = 'held';
  create index if not exists reservation_by_closed on reservation (closed_ms) where state <> 'held';
`;

/** Of objects whose table is from before an intent was kept with what it set; null there: not known. */
const configuredColumns = ["limit_units", "leak_units_per_hour"] as const;

export interface Balance {
  readonly limit_units: number;
  readonly leak_units_per_hour: number;
  readonly spent_units: number;
  readonly held_units: number;
  readonly remaining_units: number;
}

export interface ReserveRequest {
  /** Hex digest of tenant, principal, route and Idempotency-Key. */
  readonly intent: string;
  readonly payload_sha256: string;
  readonly execution_id: string;
  readonly units: number;
}

export type Reserved =
  | {
      readonly state: "reserved";
      readonly execution_id: string;
      readonly admit_until_ms: number;
      readonly remaining_units: number;
    }
  | { readonly state: "exceeded"; readonly units: number; readonly balance: Balance }
  | { readonly state: "conflict" };

/** `held`: the lease is not the one that was seen to end; a retry has taken the reservation up again. */
export type Closed = "settled" | "refunded" | "held" | "unknown";

export interface EndedLease {
  readonly execution_id: string;
  readonly principal: string | null;
  readonly lease_until_ms: number;
}

/** What callers of the ledger's object may ask. When a promise resolves, the change is durable. */
export interface LedgerPort {
  balance(): Promise<Balance>;
  /** `intent`: hex digest of the Idempotency-Key's claim, or null. Null: the same intent has set something else before. */
  configure(
    principal: string,
    limitUnits: number,
    leakUnitsPerHour: number,
    intent: string | null,
  ): Promise<Balance | null>;
  reserve(principal: string, request: ReserveRequest): Promise<Reserved>;
  settle(executionId: string): Promise<Closed>;
}

export class Ledger {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
    sql.exec(schema);
    const columns = new Set(
      sql.exec<{ name: string }>("select name from pragma_table_info('configured')").map(({ name }) => name),
    );
    for (const column of configuredColumns)
      if (!columns.has(column)) sql.exec(`alter table configured add column ${column} integer`);
  }

  /**
   * Sets limit and leak; what was spent so far stays spent. No budget set means a limit of 0. The same intent sets once,
   * so that a late retry does not undo what another set after it; with other numbers it sets nothing, and null says so.
   */
  configure(
    context: EventContext,
    limitUnits: number,
    leakUnitsPerHour: number,
    intent: string | null,
  ): Balance | null {
    return this.#sql.transaction(() => {
      this.#sql.exec("delete from configured where created_ms <= ?", context.now - intentWindowMs);
      if (intent !== null) {
        const [known] = this.#sql.exec<Record<(typeof configuredColumns)[number], number | null>>(
          "select limit_units, leak_units_per_hour from configured where intent = ?",
          intent,
        );
        if (known !== undefined) {
          const { limit_units: limit, leak_units_per_hour: leak } = known;
          const isSame = (limit ?? limitUnits) === limitUnits && (leak ?? leakUnitsPerHour) === leakUnitsPerHour;
          return isSame ? this.balance(context.now) : null;
        }
        this.#sql.exec(
          "insert into configured (intent, created_ms, limit_units, leak_units_per_hour) values (?, ?, ?, ?)",
          intent,
          context.now,
          limitUnits,
          leakUnitsPerHour,
        );
      }
      const spentParts = this.#leak(context.now);
      this.#sql.exec(
        `insert into budget values (1, ?, ?, ?, ?) on conflict (only) do update set
           limit_units = excluded.limit_units, leak_units_per_hour = excluded.leak_units_per_hour`,
        limitUnits,
        leakUnitsPerHour,
        spentParts,
        context.now,
      );
      storeEvent(this.#sql, context, "mc.privacy.budget_set", {
        limit_units: limitUnits,
        leak_units_per_hour: leakUnitsPerHour,
      });
      return this.balance(context.now);
    });
  }

  balance(now: number): Balance {
    const spentParts = this.#leak(now);
    const [budget] = this.#sql.exec<{ limit_units: number; leak_units_per_hour: number }>(
      "select limit_units, leak_units_per_hour from budget",
    );
    const [held] = this.#sql.exec<{ units: number }>(
      "select coalesce(sum(units), 0) as units from reservation where state = 'held'",
    );
    const limit = budget?.limit_units ?? 0;
    const spent = Math.ceil(spentParts / partsPerUnit);
    return {
      limit_units: limit,
      leak_units_per_hour: budget?.leak_units_per_hour ?? 0,
      spent_units: spent,
      held_units: held!.units,
      remaining_units: Math.max(0, limit - spent - held!.units),
    };
  }

  /** Holds `units` under a lease. The same intent and payload get the same reservation again, and hold nothing more. */
  reserve(context: EventContext, request: ReserveRequest): Reserved {
    return this.#sql.transaction((): Reserved => {
      const [known] = this.#sql.exec<{
        execution_id: string;
        payload_sha256: string;
        created_ms: number;
        state: string;
      }>(
        `select execution_id, payload_sha256, created_ms, state from reservation
         where intent = ? and state <> 'refunded' and created_ms > ? order by created_ms desc limit 1`,
        request.intent,
        context.now - intentWindowMs,
      );
      const before = this.balance(context.now);
      if (known !== undefined) {
        if (known.payload_sha256 !== request.payload_sha256) return { state: "conflict" };
        if (known.state === "held")
          this.#sql.exec(
            "update reservation set lease_until_ms = max(lease_until_ms, ?) where execution_id = ?",
            context.now + leaseMs,
            known.execution_id,
          );
        return {
          state: "reserved",
          execution_id: known.execution_id,
          admit_until_ms: context.now + admitMs,
          remaining_units: before.remaining_units,
        };
      }
      if (request.units > before.remaining_units) {
        return { state: "exceeded", units: request.units, balance: before };
      }
      this.#sql.exec(
        "insert into reservation values (?, ?, ?, ?, 'held', ?, ?, ?, null)",
        request.execution_id,
        request.intent,
        request.payload_sha256,
        request.units,
        context.principal,
        context.now + leaseMs,
        context.now,
      );
      const remaining = before.remaining_units - request.units;
      // A run that spends nothing has a lease all the same (it may have to expire), but nothing to tell.
      if (request.units > 0) {
        storeEvent(this.#sql, context, "mc.privacy.reserved", {
          execution_id: request.execution_id,
          units: request.units,
          remaining_units: remaining,
        });
      }
      return {
        state: "reserved",
        execution_id: request.execution_id,
        admit_until_ms: context.now + admitMs,
        remaining_units: remaining,
      };
    });
  }

  /** The run ended: what was held is spent. Again, or after a refund, it changes nothing and says so. */
  settle(context: EventContext, executionId: string): Closed {
    return this.#close(context, executionId, "settled", null);
  }

  /**
   * The run never was: what was held is free again. Only where the lease is still the one that `ended` was seen to be:
   * between the question to Postgres and its answer a retry may have taken the reservation up. `rule`: a machine word.
   */
  refund(context: EventContext, ended: EndedLease, rule: string): Closed {
    const [row] = this.#sql.exec<{ lease_until_ms: number; state: string }>(
      "select lease_until_ms, state from reservation where execution_id = ?",
      ended.execution_id,
    );
    if (row?.state === "held" && row.lease_until_ms !== ended.lease_until_ms) return "held";
    return this.#close(context, ended.execution_id, "refunded", rule);
  }

  /** Reservations whose lease has ended: ask Postgres what became of their runs. */
  due(now: number, limit: number): EndedLease[] {
    return this.#sql.exec<{ execution_id: string; principal: string | null; lease_until_ms: number }>(
      "select execution_id, principal, lease_until_ms from reservation where state = 'held' and lease_until_ms <= ? order by lease_until_ms limit ?",
      now,
      limit,
    );
  }

  /** Never shortens: a retry may have extended the lease meanwhile. */
  extend(executionId: string, leaseUntilMs: number): void {
    this.#sql.exec(
      "update reservation set lease_until_ms = max(lease_until_ms, ?) where execution_id = ? and state = 'held'",
      leaseUntilMs,
      executionId,
    );
  }

  /** When the object must wake next for a lease, or null. Drops old closed reservations on the way. */
  nextLease(now: number): number | null {
    this.#sql.exec(
      `delete from reservation where execution_id in (
         select execution_id from reservation where state <> 'held' and closed_ms < ? limit 500)`,
      now - closedKeptMs,
    );
    const [row] = this.#sql.exec<{ at: number | null }>(
      "select min(lease_until_ms) as at from reservation where state = 'held'",
    );
    return row?.at ?? null;
  }

  #close(context: EventContext, executionId: string, state: "settled" | "refunded", rule: string | null): Closed {
    return this.#sql.transaction((): Closed => {
      const [row] = this.#sql.exec<{ units: number; state: string; principal: string | null }>(
        "select units, state, principal from reservation where execution_id = ?",
        executionId,
      );
      if (row === undefined) return "unknown";
      if (row.state !== "held") return row.state as Closed;
      const spentParts = this.#leak(context.now);
      this.#sql.exec(
        "update reservation set state = ?, closed_ms = ? where execution_id = ?",
        state,
        context.now,
        executionId,
      );
      if (state === "settled") {
        this.#sql.exec("update budget set spent_parts = ?", spentParts + row.units * partsPerUnit);
      }
      if (row.units === 0) return state;
      const remaining = this.balance(context.now).remaining_units;
      const told = { execution_id: executionId, units: row.units, remaining_units: remaining };
      const maker = { ...context, principal: row.principal };
      if (rule === null) storeEvent(this.#sql, maker, "mc.privacy.settled", told);
      else storeEvent(this.#sql, maker, "mc.privacy.refunded", { ...told, rule });
      return state;
    });
  }

  /** Leaks up to `now` (never backwards) and answers the parts still spent. */
  #leak(now: number): number {
    const [budget] = this.#sql.exec<{ leak_units_per_hour: number; spent_parts: number; leaked_at_ms: number }>(
      "select leak_units_per_hour, spent_parts, leaked_at_ms from budget",
    );
    if (budget === undefined) return 0;
    const elapsedMs = Math.max(0, now - budget.leaked_at_ms);
    const left = Math.max(0, budget.spent_parts - elapsedMs * budget.leak_units_per_hour);
    if (elapsedMs > 0) this.#sql.exec("update budget set spent_parts = ?, leaked_at_ms = ?", left, now);
    return left;
  }
}
