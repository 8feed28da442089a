// A reviewed change of entitlements, decided in pure functions: what applying and reverting it writes, and when they may.
// Called by the tenant's queue (entitlements.ts) and by the routes of changes.

import type { Entitlement, EntitlementChange } from "../contract/http-entitlements.ts";
import { canonicalJson } from "../contract/events.ts";
import type { EntitlementFact } from "../policy/actions.ts";

export const entitlementOf = (name: string, fact: EntitlementFact): Entitlement => ({
  package: name,
  channel: fact.channel,
  allowed: fact.allowed,
  version_range: fact.version_range,
  run_windows: fact.run_windows === null ? null : fact.run_windows.map((window) => ({ ...window })),
  runs_per_day_max: fact.runs_per_day_max,
});

interface Step {
  readonly principal_id: string;
  /** RFC 3339. */
  readonly at: string;
  /** Of the set that the step makes. */
  readonly version: number;
}

export type PlannedStep =
  | {
      readonly state: "planned";
      readonly upserts: readonly Entitlement[];
      readonly removals: readonly string[];
      readonly change: EntitlementChange;
    }
  | { readonly state: "wrong_state"; readonly state_now: EntitlementChange["state"] }
  | { readonly state: "superseded"; readonly packages: readonly string[] };

export function planStep(
  rows: ReadonlyMap<string, EntitlementFact>,
  change: EntitlementChange,
  step: "apply" | "revert",
  by: Step,
): PlannedStep {
  return step === "apply" ? planApply(rows, change, by) : planRevert(rows, change, by);
}

function planApply(rows: ReadonlyMap<string, EntitlementFact>, change: EntitlementChange, by: Step): PlannedStep {
  if (change.state !== "approved") return { state: "wrong_state", state_now: change.state };
  const before = change.entitlements.map(({ package: name }) => {
    const fact = rows.get(name);
    return { package: name, entitlement: fact === undefined ? null : entitlementOf(name, fact) };
  });
  return {
    state: "planned",
    upserts: change.entitlements,
    removals: [],
    change: {
      ...change,
      state: "applied",
      before,
      applied_by: by.principal_id,
      applied_at: by.at,
      applied_version: by.version,
    },
  };
}

/** Only while every row is as the change left it: a later change is not undone by the way. */
function planRevert(rows: ReadonlyMap<string, EntitlementFact>, change: EntitlementChange, by: Step): PlannedStep {
  if (change.state !== "applied" || change.before === null) return { state: "wrong_state", state_now: change.state };
  const changedSince = change.entitlements.filter((row) => {
    const fact = rows.get(row.package);
    return fact === undefined || canonicalJson(entitlementOf(row.package, fact)) !== canonicalJson(row);
  });
  if (changedSince.length > 0) return { state: "superseded", packages: changedSince.map((row) => row.package) };
  return {
    state: "planned",
    upserts: change.before.flatMap(({ entitlement }) => (entitlement === null ? [] : [entitlement])),
    removals: change.before.flatMap(({ package: name, entitlement }) => (entitlement === null ? [name] : [])),
    change: {
      ...change,
      state: "reverted",
      reverted_by: by.principal_id,
      reverted_at: by.at,
      reverted_version: by.version,
    },
  };
}
