// Decisions that the log is told of one by one: every deny, in the one place that refuses, and the allow of each change, which the
// door makes and the change commits (shared/outbox). The event of a deny is committed before the caller is answered; Postgres being out of reach is
// then the answer instead. Used by the door, and by routes that decide with facts.

import type { AuditEvent } from "../../../shared/contract/events.ts";
import { Problem, type ProblemCode } from "../../../shared/contract/problems.ts";
import { decidedEvent } from "../../../shared/outbox/decided-event.ts";
import { newEvent, outboxInsert } from "../../../shared/outbox/outbox.ts";
import { decisionInput, type Action, type FactsOf } from "../../../shared/policy/actions.ts";
import type { Decision, Rule } from "../../../shared/policy/decide.ts";
import type { Caller } from "../../../shared/tenancy/caller.ts";
import { asTenant } from "../../../shared/tenancy/database.ts";
import { countMetric } from "../../../shared/tenancy/metrics-store.ts";
import { eventContext } from "../event-context.ts";
import type { Parts } from "../parts.ts";

/** What a decision's event needs to know of a call: a `Call` of the door fits. */
export interface DeniedCall {
  readonly now: number;
  readonly action: Action;
  readonly caller: Caller;
  readonly parts: Parts;
}

export interface DenyExtra {
  /** What was decided on, where it was more than the role; the caller is shown it. */
  readonly facts?: FactsOf<Action>;
  readonly package?: string;
  readonly execution_id?: string;
  readonly units?: number;
}

/** The event of a decision, to be committed with what it led to. */
export async function decisionEvent(
  call: DeniedCall,
  decision: Decision,
  extra: DenyExtra = {},
): Promise<AuditEvent<"mc.policy.decision">> {
  const { facts, ...named } = extra;
  const { caller, now, parts, action } = call;
  return await decidedEvent(decisionInput(action, caller, facts), (digest) =>
    newEvent(eventContext({ caller, now, parts }), "mc.policy.decision", {
      action,
      outcome: decision.allow ? "allow" : "deny",
      rule: decision.rule,
      ...(facts !== undefined && "package" in facts ? { package: facts.package } : {}),
      ...named,
      policy_sha256: parts.policy.sha256,
      ...digest,
    }),
  );
}

/**
 * The rules that are about who may do it at all, who publishes a name, or the budget: nothing that a tenant was entitled to or
 * has installed was denied by them, and mc_entitlement_denies_total does not count them.
 */
const otherRules: ReadonlySet<Rule> = new Set([
  "svid_needed",
  "role_too_low",
  "spiffe_id_of_another_tenant",
  "spiffe_id_of_another_role",
  "person_needed",
  "own_release",
  "own_change",
  "tenant_not_curating",
  "package_of_another_publisher",
  "privacy_budget_exceeded",
  "bar_lift_by_person",
  "policy_error",
]);

/** Always throws: the problem once the event is committed, or what the database threw. */
export async function denied(call: DeniedCall, decision: Decision, extra: DenyExtra = {}): Promise<never> {
  const { caller, parts, action } = call;
  const event = await decisionEvent(call, decision, extra);
  await asTenant(parts.database, caller.tenant_id, [
    outboxInsert([event], parts.shards),
    ...(otherRules.has(decision.rule)
      ? []
      : [countMetric(caller.tenant_id, "mc_entitlement_denies_total", { action, reason: decision.rule })]),
  ]);
  parts.nudgeDrain(caller.tenant_id);
  throw denyProblem(decision, caller, extra.facts ?? null, event.id);
}

const codes: Partial<Record<Decision["rule"], ProblemCode>> = {
  svid_needed: "svid_needed",
  role_too_low: "role_too_low",
  privacy_budget_exceeded: "privacy_budget_exceeded",
};

function denyProblem(decision: Decision, caller: Caller, facts: FactsOf<Action> | null, eventId: string): Problem {
  return new Problem(codes[decision.rule] ?? "denied", decision.reasons.join(" "), {
    rule: decision.rule,
    reasons: decision.reasons,
    role: caller.role,
    roles_allowed: decision.roles_allowed,
    facts,
    fix: decision.fix,
    decision: eventId,
  });
}
