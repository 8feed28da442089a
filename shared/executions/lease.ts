// What becomes of a reservation whose lease has ended. The ledger's alarm asks Postgres, which holds the truth of runs:
//   no row             the run never was: refunded
//   ended              the finish's settle got lost: settled
//   running            the lease is extended to the run's deadline
//   running, overdue   the run expires (row and event together), then settled
//   no answer          nothing is decided; asked again later

import type { Ledger } from "../privacy/ledger.ts";
import type { EventContext } from "../outbox/outbox.ts";
import { isUnavailable } from "../tenancy/database.ts";

/** A run may be finished this long after its deadline, before it expires. */
const graceMs = 5_000;
const askAgainMs = 10_000;

export type RunState =
  | { readonly state: "missing" }
  | { readonly state: "running"; readonly deadline_ms: number }
  | { readonly state: "ended" };

export interface LeaseQuestion {
  /** What Postgres knows of this run now. */
  ask(executionId: string): Promise<RunState>;
  /** Ends an overdue run as `expired`, with its event; one that has ended meanwhile stays as it is. */
  expire(context: EventContext, executionId: string): Promise<void>;
}

export async function resolveLease(
  ledger: Ledger,
  question: LeaseQuestion,
  context: EventContext,
  due: { readonly execution_id: string; readonly principal: string | null },
): Promise<void> {
  try {
    const run = await question.ask(due.execution_id);
    if (run.state === "missing") ledger.refund(context, due.execution_id, "lease_ended");
    else if (run.state === "ended") ledger.settle(context, due.execution_id);
    else if (context.now < run.deadline_ms + graceMs) ledger.extend(due.execution_id, run.deadline_ms + graceMs);
    else {
      await question.expire({ ...context, principal: due.principal, source: "api" }, due.execution_id);
      ledger.settle(context, due.execution_id);
    }
  } catch (error) {
    ledger.extend(due.execution_id, context.now + askAgainMs);
    if (!isUnavailable(error)) throw error;
  }
}
