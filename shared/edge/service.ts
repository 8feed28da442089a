// What the PolicyPublisher object offers the API, and what the signer offers the publisher. Types only.

import type { PolicyRevision, PolicySigning, ProviderState } from "../contract/http-policies.ts";
import type { Channel } from "../contract/names.ts";
import type { ChangeRefusal, PolicyChange, Removal } from "./change.ts";
import type { OnlineRole, OnlineSigned, RootDocument, TufKey, TufSignature } from "./tuf.ts";

export interface TufSignerApi {
  /** The tenant's public keys of the three online roles. */
  tufKeys(tenantId: string): Promise<Record<OnlineRole, TufKey>>;
  /** Signs targets, snapshot and timestamp for that tenant, and nothing else. */
  signTuf(tenantId: string, signed: OnlineSigned): Promise<SignedTuf>;
}
export type SignedTuf =
  | { readonly ok: true; readonly signature: TufSignature }
  | { readonly ok: false; readonly reason: string };

/** What an Idempotency-Key stands for: hex digests of its claim, and of the body that it came with. */
export interface Intent {
  readonly claim_sha256: string;
  readonly body_sha256: string;
}

/** Who asks, for the event; `intent` null: no key was sent. */
export interface PublisherCall {
  readonly principal: string;
  readonly intent: Intent | null;
}

export type PublisherRefusal =
  | ChangeRefusal
  | "policy_root_missing"
  | "policy_root_invalid"
  | "policy_keys_changed"
  | "policy_unavailable"
  | "idempotency_conflict";

export type Refused = { readonly ok: false; readonly code: PublisherRefusal; readonly detail: string };
export type Changed =
  | { readonly ok: true; readonly revision: PolicyRevision; readonly providers: readonly ProviderState[] }
  | Refused;
export type Removed =
  | {
      readonly ok: true;
      readonly removal: Removal & { readonly targets_version: number };
      readonly providers: readonly ProviderState[];
    }
  | Refused;
export type RootPut =
  | {
      readonly ok: true;
      readonly version: number;
      readonly expires: string;
      readonly providers: readonly ProviderState[];
    }
  | Refused;

/** Everything of one policy, the newest revisions first. */
export interface PolicyHistory {
  readonly name: string;
  readonly channels: Readonly<Record<Channel, PolicyRevision | null>>;
  readonly revisions: readonly PolicyRevision[];
}

export interface RepositoryView {
  readonly root: RootDocument | null;
  readonly signing: PolicySigning;
  readonly policies: readonly Omit<PolicyHistory, "revisions">[];
  readonly providers: readonly ProviderState[];
}

/** When a change has resolved with `ok`, it is durable; what each provider has of it stands in `providers`. */
export interface PublisherPort {
  change(call: PublisherCall, change: PolicyChange): Promise<Changed>;
  /** The policy's channels are named no more. */
  remove(call: PublisherCall, policy: string): Promise<Removed>;
  /** `tenant`: the tenant's slug. */
  putRoot(call: PublisherCall, tenant: string, root: RootDocument): Promise<RootPut>;
  view(): Promise<RepositoryView>;
  policy(name: string): Promise<(PolicyHistory & Pick<RepositoryView, "providers">) | null>;
  /** Who may read has changed (a fetcher's key, a workload, a bundle of a trust domain of its workloads): the stores are told soon. */
  nudgeFetchers(): Promise<void>;
  /** The cron's: signs what is due again, mirrors fetchers, looks whether each provider has what it had. */
  sweep(): Promise<void>;
}
