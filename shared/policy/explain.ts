// Why a decision is what it is, and the smallest set of changes that would make it an allow: the same evaluation, with the
// fixes of its obstacles applied to the input. Pure; called by POST /api/market/explain.

import { decide, type Decision, type Fix, type Obstacle, type Policy, type Rule } from "./decide.ts";
import type { Action, DecisionInput } from "./actions.ts";
import type { Caller } from "../tenancy/caller.ts";

export interface FoundFix extends Fix {
  readonly rule: Rule;
}

export interface Explained {
  readonly decision: Decision;
  /**
   * In the order of the rules that deny, which is one that they can be applied in. Empty where it is allowed already, or
   * where nothing that the policy knows helps.
   */
  readonly fixes: readonly FoundFix[];
}

export function explain<A extends Action>(policy: Policy, input: DecisionInput<A>): Explained {
  const decision = decide(policy, input);
  if (decision.allow) return { decision, fixes: [] };
  const suffice = (choices: readonly Choice[]): boolean => decide(policy, applied(input, choices)).allow;
  const all = distinctFixes(decision.obstacles);
  if (!suffice(all)) return { decision, fixes: [] };
  // What all others together cannot stand in for is in every set that suffices; mostly that is one already.
  const needed = new Set(all.filter((one) => !suffice(all.filter((other) => other !== one))));
  const optional = all.filter((one) => !needed.has(one));
  for (let size = 0; size <= optional.length; size += 1) {
    for (const subset of subsetsOf(optional, size)) {
      const chosen = all.filter((one) => needed.has(one) || subset.includes(one));
      if (suffice(chosen)) return { decision, fixes: chosen.map(({ rule, fix }) => ({ rule, ...fix })) };
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
    const name = JSON.stringify(fix.method === null ? fix.words : [fix.method, fix.path, fix.body]);
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
  const caller = { ...callerAfter(input.caller, choices), role };
  if (input.facts === undefined) return { ...input, caller };
  const facts = choices.reduce((all: unknown, { effect }) => merged(all, effect.facts), input.facts);
  return { ...input, caller, facts: facts as NonNullable<typeof input.facts> };
}

/** A person comes with a token, and has no SPIFFE ID. */
const person = {
  kind: "person",
  credential: "token",
  fetcher_svids: null,
  spiffe_id: null,
  spiffe_domain: null,
} as const;

function callerAfter(caller: Caller, choices: readonly Choice[]): Caller {
  if (choices.some(({ effect }) => effect.kind === "person")) return { ...caller, ...person };
  const { fetcher_svids: svids } = caller;
  const isOff = choices.some(({ effect }) => effect.spiffe_everywhere === false);
  return svids === null || !isOff ? caller : { ...caller, fetcher_svids: { ...svids, everywhere: false } };
}

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  value !== null && typeof value === "object" && !Array.isArray(value);

/** Members that an effect does not name stay as they are, at any depth: two effects on one fact do not undo each other. */
function merged(before: unknown, change: unknown): unknown {
  if (!isRecord(before) || !isRecord(change)) return change;
  return {
    ...before,
    ...Object.fromEntries(Object.entries(change).map(([key, value]) => [key, merged(before[key], value)])),
  };
}
