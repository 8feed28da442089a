// A policy that remembers what it decided by role alone, which is what the door asks first on every request. Made by
// workers/api/compose.ts around the compiled policy. Its memory never goes stale: the policy is part of the build, and of a
// caller without an SVID the Rego reads role, kind and credential, never the ids (remembered.test.ts holds both against it).

import type { Policy } from "./decide.ts";

/** Actions × roles × kinds × credentials are about 3,600. Beyond it nothing more is remembered, and the policy is asked. */
const rememberedMax = 8_000;

export function rememberedByRole(policy: Policy): Policy {
  const results = new Map<string, unknown>();
  return {
    sha256: policy.sha256,
    evaluate(input) {
      const key = keyOf(input);
      if (key === null) return policy.evaluate(input);
      const known = results.get(key);
      if (known !== undefined) return known;
      const result = policy.evaluate(input);
      if (results.size < rememberedMax) results.set(key, result);
      return result;
    },
  };
}

/** What a decision without facts depends on. Null: the input has facts, or is not to the letter, and the policy looks at it. */
function keyOf(input: unknown): string | null {
  const { action, caller, ...facts } = membersOf(input);
  const { tenant_id, tenant, principal_id, role, kind, credential, ...more } = membersOf(caller);
  const { fetcher_svids, spiffe_id, spiffe_domain, ...others } = more;
  // A workload's ID is looked at each time: there is no end of them.
  if (spiffe_id !== null || spiffe_domain !== null) return null;
  const texts = [action, role, kind, tenant_id, tenant, principal_id];
  if (!texts.every((text) => typeof text === "string")) return null;
  if (Object.keys(facts).length > 0 || Object.keys(others).length > 0) return null;
  if (credential === "token") return fetcher_svids === null ? JSON.stringify([action, role, kind]) : null;
  if (credential !== "key") return null;
  const { registered, everywhere, ...further } = membersOf(fetcher_svids);
  if (typeof registered !== "boolean" || typeof everywhere !== "boolean" || Object.keys(further).length > 0)
    return null;
  return JSON.stringify([action, role, kind, registered, everywhere]);
}

const membersOf = (value: unknown): Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null ? (value as Readonly<Record<string, unknown>>) : {};
