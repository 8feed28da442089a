// A deny: its event is committed to the outbox, then its problem is thrown. The door calls it for the role, routes for
// what the rooms decided with facts.

import { canonicalJson } from "../../../shared/contract/events.ts";
import { sha256Hex, utf8 } from "../../../shared/contract/bytes.ts";
import { Problem, type ProblemCode } from "../../../shared/contract/problems.ts";
import { newEvent, outboxInsert } from "../../../shared/outbox/outbox.ts";
import { decisionInput, type Action, type FactsOf } from "../../../shared/policy/actions.ts";
import type { Decision } from "../../../shared/policy/decide.ts";
import type { Caller } from "../../../shared/tenancy/caller.ts";
import { asTenant } from "../../../shared/tenancy/database.ts";
import { eventContext } from "../event-context.ts";
import type { Parts } from "../parts.ts";

/** What a deny needs of a call: a `Call` of the door fits. */
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

/** Always throws: the problem once the event is committed, or what the database threw. */
export async function denied(call: DeniedCall, decision: Decision, extra: DenyExtra = {}): Promise<never> {
  const { caller, parts } = call;
  const { facts, ...named } = extra;
  const input = decisionInput(call.action, caller, facts);
  const event = newEvent(eventContext(call), "mc.policy.decision", {
    action: call.action,
    outcome: "deny",
    rule: decision.rule,
    ...named,
    policy_sha256: parts.policy.sha256,
    input_sha256: await sha256Hex(utf8(canonicalJson(input))),
  });
  await asTenant(parts.database, caller.tenant_id, [outboxInsert([event], parts.shards)]);
  parts.nudgeDrain(caller.tenant_id);
  throw denyProblem(decision, caller, facts ?? null);
}

const codes: Partial<Record<Decision["rule"], ProblemCode>> = {
  role_too_low: "role_too_low",
  privacy_budget_exceeded: "privacy_budget_exceeded",
};

function denyProblem(decision: Decision, caller: Caller, facts: FactsOf<Action> | null): Problem {
  return new Problem(codes[decision.rule] ?? "denied", decision.reasons.join(" "), {
    rule: decision.rule,
    reasons: decision.reasons,
    role: caller.role,
    roles_allowed: decision.roles_allowed,
    facts,
    fix: decision.fix,
  });
}
