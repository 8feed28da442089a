// The appendices of a pack: what its events say about the run's privacy budget, and about who reviewed the access that it
// had. Derived: each entry names the row that it was read from, and a verifier makes them anew and compares.

import type { LoggedEvent } from "../contract/events.ts";
import type { RunContext, RunEvents } from "./context.ts";

type Json = Readonly<Record<string, unknown>>;

const from = ({ seq, occurred_at: at }: LoggedEvent): Json => ({ seq, at });

/** Null where the log has no such event: nothing reserved for a run that spends nothing, no budget ever set. */
export function privacyBudgetAppendix(run: RunEvents, { budget }: RunContext): Json {
  const { reserved, settled, refunded } = run;
  const last = settled ?? refunded ?? reserved;
  return {
    schema_version: 1,
    execution_id: run.started.attributes.execution_id,
    declared: { ...from(run.started), units: run.started.attributes.units },
    budget: budget === null ? null : { ...from(budget), ...budget.attributes },
    reserved: reserved === null ? null : { ...from(reserved), ...unitsOf(reserved.attributes) },
    settled: settled === null ? null : { ...from(settled), ...unitsOf(settled.attributes) },
    refunded:
      refunded === null ? null : { ...from(refunded), ...unitsOf(refunded.attributes), rule: refunded.attributes.rule },
    remaining: last === null ? null : { ...from(last), units: last.attributes.remaining_units },
  };
}

const unitsOf = ({ units, remaining_units }: { units: number; remaining_units: number }): Json => ({
  units,
  remaining_units,
});

export function accessReviewsAppendix(run: RunEvents, { entitlement, reviews, release }: RunContext): Json {
  const told = (event: LoggedEvent): Json => ({ ...from(event), type: event.type, principal: event.principal });
  return {
    schema_version: 1,
    execution_id: run.started.attributes.execution_id,
    decided_on: { ...from(run.started), entitlement_version: run.started.attributes.entitlement_version },
    entitlement:
      entitlement === null
        ? null
        : {
            ...told(entitlement),
            entitlement_version: entitlement.attributes.entitlement_version,
            outcome: entitlement.attributes.outcome,
          },
    entitlement_reviews: reviews.map((review) => ({ ...told(review), ...review.attributes })),
    release_reviews: release.map((event) => ({
      ...told(event),
      outcome: (event.attributes as { outcome?: string }).outcome ?? null,
    })),
  };
}
