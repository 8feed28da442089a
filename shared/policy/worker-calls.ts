// Which of the platform's own workers may call which method of which: decided by the same compiled Rego as all else
// (policy/rego/spiffe_check.rego, rule `worker_call`). Asked by the callee's door. Whatever is not a decision is a no.

import { z } from "zod";
import { workerCallEntrypoint, type LoadedPolicy } from "./compiled.ts";

export interface WorkerCallInput {
  readonly callee: string;
  readonly method: string;
  readonly spiffe_id: string;
  /** The platform's. */
  readonly trust_domain: string;
}

export type WorkerCallDecision = { readonly allow: true } | { readonly allow: false; readonly reason: string };

/** Methods × callers that exist are fewer than this. Beyond it nothing more is remembered, and the policy is asked. */
const rememberedMax = 500;

const resultSet = z.tuple([
  z.strictObject({
    result: z.discriminatedUnion("allow", [
      z.strictObject({ allow: z.literal(true), reasons: z.array(z.never()).length(0) }),
      z.strictObject({ allow: z.literal(false), reasons: z.array(z.string().min(1).max(500)).min(1).max(4) }),
    ]),
  }),
]);

/** The decision depends on nothing but its input and the build, so that it may be remembered. Never throws. */
export function workerCalls(loaded: LoadedPolicy): (input: WorkerCallInput) => WorkerCallDecision {
  const known = new Map<string, WorkerCallDecision>();
  return (input) => {
    const key = JSON.stringify([input.callee, input.method, input.spiffe_id, input.trust_domain]);
    const before = known.get(key);
    if (before !== undefined) return before;
    const decided = decide(loaded, input);
    if (known.size < rememberedMax) known.set(key, decided);
    return decided;
  };
}

function decide(loaded: LoadedPolicy, input: WorkerCallInput): WorkerCallDecision {
  let result: unknown;
  try {
    result = loaded.evaluate(input, workerCallEntrypoint);
  } catch {
    return { allow: false, reason: "the policy gave no decision" };
  }
  const parsed = resultSet.safeParse(result);
  if (!parsed.success) return { allow: false, reason: "the policy gave no decision" };
  const decision = parsed.data[0].result;
  return decision.allow ? { allow: true } : { allow: false, reason: decision.reasons.join("; ") };
}
