// Rules of the compiled Rego that say yes or no and why, beside the decisions about callers: between workers (worker-calls.ts), and about
// routes that ask for no credential (open-routes.ts). Whatever is not a decision is a no.

import { z } from "zod";
import type { LoadedPolicy } from "./compiled.ts";

export type YesOrNo = { readonly allow: true } | { readonly allow: false; readonly reason: string };

const resultSet = z.tuple([
  z.strictObject({
    result: z.discriminatedUnion("allow", [
      z.strictObject({ allow: z.literal(true), reasons: z.array(z.never()).length(0) }),
      z.strictObject({ allow: z.literal(false), reasons: z.array(z.string().min(1).max(500)).min(1).max(4) }),
    ]),
  }),
]);

const noDecision: YesOrNo = { allow: false, reason: "the policy gave no decision" };

/**
 * Asks that rule. The decision depends on nothing but its input and the build, so that up to `rememberedMax` are remembered, by `keyOf`;
 * beyond it the policy is asked each time. Never throws.
 */
export function yesOrNo<Input>(
  loaded: LoadedPolicy,
  entrypoint: string,
  keyOf: (input: Input) => string,
  rememberedMax: number,
): (input: Input) => YesOrNo {
  const known = new Map<string, YesOrNo>();
  return (input) => {
    const key = keyOf(input);
    const before = known.get(key);
    if (before !== undefined) return before;
    const decided = decide(loaded, entrypoint, input);
    if (known.size < rememberedMax) known.set(key, decided);
    return decided;
  };
}

function decide(loaded: LoadedPolicy, entrypoint: string, input: unknown): YesOrNo {
  let result: unknown;
  try {
    result = loaded.evaluate(input, entrypoint);
  } catch {
    return noDecision;
  }
  const parsed = resultSet.safeParse(result);
  if (!parsed.success) return noDecision;
  const decision = parsed.data[0].result;
  return decision.allow ? { allow: true } : { allow: false, reason: decision.reasons.join("; ") };
}
