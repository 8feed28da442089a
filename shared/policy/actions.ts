// The actions that the policy decides, and the facts that it may be told. The API door names an action on every route;
// policy/rego/authz.rego has the same list as data, and a test compares the two.

import type { Caller } from "../tenancy/caller.ts";
import type { RunWindow, Weekday } from "../contract/http-entitlements.ts";
import type { FlagFacts } from "../contract/http-flags.ts";
import type { Channel } from "../contract/names.ts";

export const actions = [
  "whoami.read",
  "key.list",
  "key.create",
  "key.revoke",
  "principal.list",
  "principal.erase",
  "publisher_key.add",
  "release.publish",
  "release.review",
  "release.yank",
  "release.read",
  "channel.move",
  "artifact.read",
  "entitlement.read",
  "entitlement.write",
  "entitlement.propose",
  "entitlement.approve",
  "explain.ask",
  "install.read",
  "install.write",
  "install.pin",
  "upgrade.start",
  "rollback.start",
  "package.freeze",
  "bar.write",
  "execution.start",
  "execution.finish",
  "execution.read",
  "disclosure.link",
  "pql.query",
  "budget.read",
  "budget.write",
  "audit.read",
  "flag.read",
  "flag.write",
  "metrics.read",
  "policy.read",
  "policy.publish",
  "policy.promote",
  "policy.roll_back",
  "policy.root",
  "edge.report",
  "edge.read",
  "edge.forget",
  "policy.remove",
  "identity.read",
  "identity.write",
  "rotation.read",
  "rotation.start",
  "rotation.acknowledge",
  "rotation.approve",
  "rotation.cancel",
] as const;
export type Action = (typeof actions)[number];

export interface EntitlementFact {
  readonly channel: Channel;
  readonly allowed: boolean;
  readonly version_range: string | null;
  readonly run_windows: readonly RunWindow[] | null;
  readonly runs_per_day_max: number | null;
}

/** The ledger's refusal: null while it was not asked, or where it had room. */
export interface PrivacyFact {
  readonly units: number;
  readonly remaining_units: number;
  /** The budget's limit that would have room for the run now. */
  readonly limit_needed_units: number;
  readonly leak_units_per_hour: number;
}

/** The release that a channel points to. */
export interface ReleaseFact {
  readonly version: string;
  readonly state: "published" | "yanked";
  /** The tenant has barred it. */
  readonly barred: boolean;
  /**
   * Where it is yanked: the newest published version that the tenant has not barred, one in the entitlement's range before
   * one outside of it. Null where there is none, and where it is not yanked.
   */
  readonly alternative: string | null;
}

/** What a run lacks: the way that an install from this channel would be, as far as the policy asks about it. */
export interface InstallingFact {
  readonly channel: Channel;
  readonly release: ReleaseFact;
  readonly frozen: boolean;
}

/** What install.write and upgrade.start are decided on. */
interface MoveFacts {
  readonly package: string;
  readonly channel: Channel;
  readonly flags: FlagFacts;
  readonly entitlement: EntitlementFact | null;
  readonly release: ReleaseFact | null;
  /** The release (or its alternative, where it is yanked) is in the entitlement's range; true where either is missing. */
  readonly in_range: boolean;
  readonly frozen: boolean;
}

/** What rotations of keys are decided on. */
interface RotationFacts {
  /** The caller's tenant curates the marketplace, and with it runs the platform's keys. */
  readonly curates: boolean;
  /** The keys are the authority of a trust domain that the caller's tenant states. */
  readonly own_domain: boolean;
}

/** What a room found out before it asks for the whole decision; null = there is none. */
export interface ActionFacts {
  readonly "execution.start": {
    readonly package: string;
    readonly flags: FlagFacts;
    readonly entitlement: EntitlementFact | null;
    /** The install asked for, there or not. */
    readonly install_name: string;
    readonly install: { readonly channel: Channel; readonly version: string } | null;
    /** What installing it would meet; null where it is installed, and where no channel points to a release. */
    readonly installing: InstallingFact | null;
    /** The version installed, or that which would be, is in the entitlement's range; true where either is missing. */
    readonly in_range: boolean;
    /** UTC, of the call. */
    readonly clock: { readonly weekday: Weekday; readonly minute: number };
    /** Runs of the package that started in this UTC day. */
    readonly runs_today: number;
    readonly privacy: PrivacyFact | null;
  };
  /** `install`: the one that is to be moved; null where it is new. */
  readonly "install.write": MoveFacts & {
    readonly install: { readonly name: string; readonly pinned: boolean } | null;
  };
  readonly "upgrade.start": MoveFacts & {
    readonly installs: { readonly count: number; readonly pinned: number };
    /** The gate of the rollout that would be widened holds, and the call does not say to go on despite it. */
    readonly gate_holds: boolean;
    readonly cohort_percent: number;
  };
  readonly "rollback.start": {
    readonly package: string;
    /** The version asked for, or null: the last good one of each. */
    readonly version: string | null;
    readonly installs:
      | { readonly count: number }
      | {
          readonly count: number;
          /** Installs that would move, were the version asked for not barred. For explanations: the action plans. */
          readonly can_go_back: number;
          /** Where none would, and no version was asked for: the version that one would go to, were it not barred. */
          readonly barred_way: string | null;
        };
    /** The version asked for is barred. */
    readonly barred: boolean;
  };
  readonly "release.publish": {
    readonly package: string;
    readonly package_owner: "none" | "self" | "other";
  };
  /** `lifts`: the bar is to be lifted, not placed. */
  readonly "bar.write": { readonly package: string; readonly version: string; readonly lifts: boolean };
  /** `own`: the caller uploaded it, themselves or by a key that comes from the same person. */
  readonly "release.review": { readonly package: string; readonly version: string; readonly own: boolean };
  readonly "rotation.read": RotationFacts;
  readonly "rotation.start": RotationFacts;
  readonly "rotation.acknowledge": RotationFacts;
  readonly "rotation.cancel": RotationFacts;
  /** `own`: the caller proposed the emergency, themselves or by a key that comes from the same person. */
  readonly "rotation.approve": RotationFacts & { readonly rotation_id: string; readonly own: boolean };
  /** `own`: the caller proposed it, themselves or by a key that comes from the same person. */
  readonly "entitlement.approve": { readonly change_id: string; readonly own: boolean };
}
export type FactsOf<A extends Action> = A extends keyof ActionFacts ? ActionFacts[A] : never;

export interface DecisionInput<A extends Action = Action> {
  readonly action: A;
  readonly caller: Caller;
  /** Without facts the role alone is decided: the door does that before anything is looked up. */
  readonly facts?: FactsOf<A>;
}

/** The input of a decision. Named fields only: nothing else of the caller reaches the policy. */
export function decisionInput<A extends Action>(action: A, caller: Caller, facts?: FactsOf<A>): DecisionInput<A> {
  const { tenant_id, tenant, principal_id, role, kind, credential, fetcher_svids, spiffe_id, spiffe_domain } = caller;
  const who = { tenant_id, tenant, principal_id, role, kind, credential, fetcher_svids, spiffe_id, spiffe_domain };
  return facts === undefined ? { action, caller: who } : { action, caller: who, facts };
}
