// The actions that the policy decides, and the facts that it may be told. The API door names an action on every route;
// policy/rego/authz.rego has the same list as data, and a test compares the two.

import type { Caller } from "../tenancy/caller.ts";
import type { Channel } from "../contract/names.ts";

export const actions = [
  "whoami.read",
  "key.list",
  "key.create",
  "key.revoke",
  "publisher_key.add",
  "release.publish",
  "release.read",
  "artifact.read",
  "entitlement.read",
  "entitlement.write",
  "install.read",
  "install.write",
  "execution.start",
  "execution.finish",
  "execution.read",
  "disclosure.link",
  "pql.query",
  "budget.read",
  "budget.write",
  "audit.read",
] as const;
export type Action = (typeof actions)[number];

interface EntitlementFact {
  readonly channel: Channel;
  readonly allowed: boolean;
}

/** What a room found out before it asks for the whole decision; null = there is none. */
export interface ActionFacts {
  readonly "execution.start": {
    readonly package: string;
    readonly entitlement: EntitlementFact | null;
    readonly install: { readonly channel: Channel; readonly version: string } | null;
    readonly privacy: { readonly remaining_units: number; readonly units: number } | null;
  };
  readonly "install.write": {
    readonly package: string;
    readonly channel: Channel;
    readonly entitlement: EntitlementFact | null;
    readonly release: { readonly channel: Channel } | null;
  };
  readonly "release.publish": {
    readonly package: string;
    readonly package_owner: "none" | "self" | "other";
  };
}
export type FactsOf<A extends Action> = A extends keyof ActionFacts ? ActionFacts[A] : never;

export interface DecisionInput<A extends Action = Action> {
  readonly action: A;
  readonly caller: Pick<Caller, "tenant_id" | "principal_id" | "role" | "kind">;
  /** Without facts the role alone is decided: the door does that before anything is looked up. */
  readonly facts?: FactsOf<A>;
}

/** The input of a decision. Named fields only: nothing else of the caller reaches the policy. */
export function decisionInput<A extends Action>(action: A, caller: Caller, facts?: FactsOf<A>): DecisionInput<A> {
  const { tenant_id, principal_id, role, kind } = caller;
  const who = { tenant_id, principal_id, role, kind };
  return facts === undefined ? { action, caller: who } : { action, caller: who, facts };
}
