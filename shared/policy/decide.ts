// The one way to a decision: the Rego policy, compiled to WASM, evaluated and held to a strict shape. Called by the API
// door for every route, and by rooms with the facts of the case. Whatever is not a decision is a deny.

import { z } from "zod";
import { roleNames } from "../contract/names.ts";
import type { DecisionInput } from "./actions.ts";

/** A compiled policy: `sha256` is the digest of its Rego source, as `policySourceDigest()` of scripts/generate counts it. */
export interface Policy {
  readonly sha256: string;
  /** OPA's result set for the entry point: `[{ result }]`, or `[]` where the rule is undefined. May throw. */
  evaluate(input: unknown): unknown;
}

export const rules = [
  "ok",
  "role_too_low",
  "entitlement_missing",
  "entitlement_denied",
  "channel_not_entitled",
  "not_installed",
  "privacy_budget_exceeded",
  "package_of_another_publisher",
  "policy_error",
] as const;
export type Rule = (typeof rules)[number];

const fix = z.strictObject({
  words: z.string().min(1).max(500),
  method: z.enum(["GET", "POST", "PUT", "DELETE"]),
  path: z.string().startsWith("/").max(300),
  body: z.unknown(),
});

const sentences = z.array(z.string().min(1).max(500)).max(8);
const rolesAllowed = z.array(z.enum(roleNames)).max(roleNames.length);

/** An allow carries nothing to explain; a deny carries at least one reason. */
const decisionShape = z.discriminatedUnion("allow", [
  z.strictObject({
    allow: z.literal(true),
    rule: z.literal("ok"),
    reasons: z.array(z.never()).length(0),
    roles_allowed: rolesAllowed.min(1),
    fix: z.null(),
  }),
  z.strictObject({
    allow: z.literal(false),
    rule: z.enum(rules).exclude(["ok", "policy_error"]),
    reasons: sentences.min(1),
    roles_allowed: rolesAllowed,
    fix: fix.nullable(),
  }),
]);

const resultSet = z.tuple([z.strictObject({ result: decisionShape })]);

export interface Fix {
  readonly words: string;
  readonly method: "GET" | "POST" | "PUT" | "DELETE";
  readonly path: string;
  readonly body: unknown;
}

export interface Decision {
  readonly allow: boolean;
  readonly rule: Rule;
  readonly reasons: readonly string[];
  readonly roles_allowed: readonly (typeof roleNames)[number][];
  /** The smallest change that would allow it, in words and as a call of this API. */
  readonly fix: Fix | null;
}

const policyError: Decision = {
  allow: false,
  rule: "policy_error",
  reasons: ["The policy gave no decision, so the answer is no. Report the request id."],
  roles_allowed: [],
  fix: null,
};

/** Never throws: an exception, an undefined rule, a missing or foreign field is a deny with rule `policy_error`. */
export function decide(policy: Policy, input: DecisionInput): Decision {
  let result: unknown;
  try {
    result = policy.evaluate(input);
  } catch {
    return policyError;
  }
  const parsed = resultSet.safeParse(result);
  return parsed.success ? parsed.data[0].result : policyError;
}
