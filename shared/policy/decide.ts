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
  "svid_needed",
  "spiffe_id_of_another_tenant",
  "spiffe_id_of_another_role",
  "role_too_low",
  "person_needed",
  "own_release",
  "own_change",
  "tenant_not_curating",
  "bar_lift_by_person",
  "package_of_another_publisher",
  "channels_off",
  "entitlements_off",
  "entitlement_missing",
  "entitlement_denied",
  "channel_not_entitled",
  "version_not_entitled",
  "release_yanked",
  "release_barred",
  "package_frozen",
  "not_installed",
  "nothing_to_roll_back",
  "install_pinned",
  "gate_holds",
  "outside_run_window",
  "run_cap_reached",
  "privacy_budget_exceeded",
  "policy_error",
] as const;
export type Rule = (typeof rules)[number];

const fix = z
  .strictObject({
    words: z.string().min(1).max(500),
    method: z.enum(["GET", "POST", "PUT", "DELETE"]).nullable(),
    path: z.string().startsWith("/").max(300).nullable(),
    body: z.unknown(),
  })
  .refine(({ method, path }) => (method === null) === (path === null), "a call has a method and a path, or is none");

/** What applying a fix does to the input of the same decision: the facts that become others, the role, the kind of caller, the flag. */
const effect = z.strictObject({
  facts: z.record(z.string(), z.unknown()),
  role: z.enum(roleNames).nullable(),
  kind: z.literal("person").optional(),
  spiffe_everywhere: z.literal(false).optional(),
});

const denyRule = z.enum(rules).exclude(["ok", "policy_error"]);
const obstacle = z.strictObject({ rule: denyRule, reason: z.string().min(1).max(500), fix: fix.nullable(), effect });

const sentences = z.array(z.string().min(1).max(500)).max(8);
const rolesAllowed = z.array(z.enum(roleNames)).max(roleNames.length);

/** An allow carries nothing to explain; a deny carries at least one reason. */
const decisionShape = z.discriminatedUnion("allow", [
  z.strictObject({
    allow: z.literal(true),
    // `entitlements_off`: allowed without an entitlement, because the flag is off; to be told in the log.
    rule: z.enum(["ok", "entitlements_off"]),
    reasons: z.array(z.never()).length(0),
    roles_allowed: rolesAllowed.min(1),
    fix: z.null(),
    obstacles: z.array(z.never()).length(0),
  }),
  z.strictObject({
    allow: z.literal(false),
    rule: denyRule,
    reasons: sentences.min(1),
    roles_allowed: rolesAllowed,
    fix: fix.nullable(),
    obstacles: z.array(obstacle).min(1),
  }),
]);

const resultSet = z.tuple([z.strictObject({ result: decisionShape })]);

export interface Fix {
  readonly words: string;
  /** Null, as `path` and `body` are then: no call of the caller's helps, and the words say what does. */
  readonly method: "GET" | "POST" | "PUT" | "DELETE" | null;
  readonly path: string | null;
  readonly body: unknown;
}

/** One rule that denies; a decision names the first, `obstacles` has all. */
export interface Obstacle {
  readonly rule: Rule;
  readonly reason: string;
  readonly fix: Fix | null;
  /** What applying the fix changes in the input: an explanation evaluates that again. */
  readonly effect: {
    readonly facts: Readonly<Record<string, unknown>>;
    readonly role: (typeof roleNames)[number] | null;
    readonly kind?: "person" | undefined;
    readonly spiffe_everywhere?: false | undefined;
  };
}

export interface Decision {
  readonly allow: boolean;
  readonly rule: Rule;
  readonly reasons: readonly string[];
  readonly roles_allowed: readonly (typeof roleNames)[number][];
  /** The smallest change that would allow it, in words and as a call of this API. */
  readonly fix: Fix | null;
  /** Every rule that denies, nearest first; never shown whole to a caller who may not see the facts. */
  readonly obstacles: readonly Obstacle[];
}

const policyError: Decision = {
  allow: false,
  rule: "policy_error",
  reasons: ["The policy gave no decision, so the answer is no. Report the request id."],
  roles_allowed: [],
  fix: null,
  obstacles: [],
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
