// /api/market/explain: would this be allowed, why not, and what is the smallest change that would allow it.

import { createRoute, type z } from "@hono/zod-openapi";
import { explainRequest, explanation, type Explanation } from "../../../shared/contract/http-entitlements.ts";
import { Problem } from "../../../shared/contract/problems.ts";
import { actions, decisionInput, type Action, type ActionFacts } from "../../../shared/policy/actions.ts";
import { decide } from "../../../shared/policy/decide.ts";
import { explain } from "../../../shared/policy/explain.ts";
import type { Call, Door } from "../door.ts";
import { factsSources } from "../market/action-facts.ts";

const json = <S extends z.ZodType>(schema: S) => ({ "application/json": { schema } });

export function register(door: Door): void {
  door.route({
    route: createRoute({
      method: "post",
      path: "/api/market/explain",
      summary: "Would this action be allowed, and if not, what is the smallest change that would allow it",
      description:
        "Decides exactly as the action itself would, with nothing reserved and nothing written. A caller who may not read " +
        "every fact of the action is told of the role alone.",
      request: { body: { content: json(explainRequest), required: true } },
      responses: {
        200: { description: "The decision, its facts, and the fixes in order", content: json(explanation) },
      },
    }),
    action: "explain.ask",
    idempotency: "none",
    problems: ["not_found"],
    handler: async (call) => ({ status: 200, body: await explained(call) }),
  });
}

const isAction = (text: string): text is Action => (actions as readonly string[]).includes(text);
const hasFacts = (action: Action): action is keyof ActionFacts => Object.hasOwn(factsSources, action);

async function explained(
  call: Pick<Call, "parts" | "caller" | "now"> & {
    readonly input: { readonly json: z.output<typeof explainRequest> };
  },
): Promise<Explanation> {
  const { parts, caller } = call;
  const asked = call.input.json;
  const { action } = asked;
  if (!isAction(action)) {
    throw new Problem("invalid_request", "There is no such action.", {
      errors: [{ path: "action", message: `one of ${actions.join(", ")}` }],
    });
  }
  const source = hasFacts(action) ? factsSources[action] : null;
  // Decided by who asks alone, before anything is looked up: what the caller may not see cannot make a difference.
  const seesAll =
    source === null || source.reads.every((read) => decide(parts.policy, decisionInput(read, caller)).allow);
  const facts = source === null || !seesAll ? undefined : await source.facts(call, asked);
  const { decision, fixes } = explain(parts.policy, decisionInput<Action>(action, caller, facts));
  return {
    action,
    allow: decision.allow,
    rule: decision.rule,
    reasons: [...decision.reasons],
    role: caller.role,
    roles_allowed: [...decision.roles_allowed],
    facts: facts === undefined ? null : { ...facts },
    fixes: fixes.map(({ rule, words, method, path, body }) => ({ rule, words, method, path, body })),
    complete: seesAll,
    policy_sha256: parts.policy.sha256,
  };
}
