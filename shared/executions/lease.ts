// What becomes of a reservation whose lease has ended. The ledger's alarm asks Postgres, which holds the truth of runs:
//   no row             the run never was: refunded
//   ended              the finish's settle got lost: settled
//   running            the lease is extended to the run's deadline
//   running, overdue   the run expires (row and event together), then settled
//   no answer          nothing is decided; asked again later

import type { EndedLease, Ledger } from "../privacy/ledger.ts";
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

/** False: Postgres could not be asked, and asking about other leases now is of no use. Throws what is no outage. */
export async function resolveLease(
  ledger: Ledger,
  question: LeaseQuestion,
  context: EventContext,
  ended: EndedLease,
): Promise<boolean> {
  const { execution_id: id, principal } = ended;
  try {
    const run = await question.ask(id);
    if (run.state === "missing") ledger.refund(context, ended, "lease_ended");
    else if (run.state === "ended") ledger.settle(context, id);
    else if (context.now < run.deadline_ms + graceMs) ledger.extend(id, run.deadline_ms + graceMs);
    else {
      await question.expire({ ...context, principal, source: "api" }, id);
      ledger.settle(context, id);
    }
    return true;
  } catch (error) {
    ledger.extend(id, context.now + askAgainMs);
    if (isUnavailable(error)) return false;
    throw error;
  }
}
