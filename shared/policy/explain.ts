// Why a decision is what it is, and the smallest set of changes that would make it an allow: the same evaluation, with the
// fixes of its obstacles applied to the input. Pure; called by POST /api/market/explain.

import { decide, type Decision, type Fix, type Obstacle, type Policy, type Rule } from "./decide.ts";
import type { Action, DecisionInput } from "./actions.ts";

export interface FoundFix extends Fix {
  readonly rule: Rule;
}

export interface Explained {
  readonly decision: Decision;
  /** In the order of the rules that deny. Empty where it is allowed already, or where nothing that the policy knows helps. */
  readonly fixes: readonly FoundFix[];
}

/** Obstacles that a decision can have at one time, at most: so many fixes are tried together. */
const fixesMax = 8;

export function explain<A extends Action>(policy: Policy, input: DecisionInput<A>): Explained {
  const decision = decide(policy, input);
  if (decision.allow) return { decision, fixes: [] };
  const choices = distinctFixes(decision.obstacles).slice(0, fixesMax);
  for (let size = 1; size <= choices.length; size += 1) {
    for (const subset of subsetsOf(choices, size)) {
      if (decide(policy, applied(input, subset)).allow) {
        return { decision, fixes: subset.map(({ rule, fix }) => ({ rule, ...fix })) };
      }
    }
  }
  return { decision, fixes: [] };
}

type Choice = Obstacle & { readonly fix: Fix };

/** One call that answers several obstacles is one fix. */
function distinctFixes(obstacles: readonly Obstacle[]): Choice[] {
  const seen = new Map<string, Choice>();
  for (const obstacle of obstacles) {
    const { fix } = obstacle;
    if (fix === null) continue;
    const name = JSON.stringify([fix.method, fix.path, fix.body]);
    if (!seen.has(name)) seen.set(name, { ...obstacle, fix });
  }
  return [...seen.values()];
}

function* subsetsOf(choices: readonly Choice[], size: number, from = 0): Generator<Choice[]> {
  if (size === 0) {
    yield [];
    return;
  }
  for (let at = from; at <= choices.length - size; at += 1) {
    for (const rest of subsetsOf(choices, size - 1, at + 1)) yield [choices[at]!, ...rest];
  }
}

/** The input as it would be once the fixes were applied: what the policy itself says of their effects. */
function applied<A extends Action>(input: DecisionInput<A>, choices: readonly Choice[]): DecisionInput<A> {
  const role = choices.map(({ effect }) => effect.role).findLast((one) => one !== null) ?? input.caller.role;
  const caller = { ...input.caller, role };
  if (input.facts === undefined) return { ...input, caller };
  const facts = choices.reduce((all, { effect }) => ({ ...all, ...effect.facts }), input.facts);
  return { ...input, caller, facts };
}
