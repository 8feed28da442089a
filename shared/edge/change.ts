// What a publish, a promotion, a rollback or a removal makes of a tenant's targets. Pure; called by publisher.ts.

import type { PolicyRevision } from "../contract/http-policies.ts";
import { channelNames, type Channel } from "../contract/names.ts";
import { targetPath, targetsMax, type PolicyTarget, type TargetsSigned } from "./tuf.ts";

/** A bundle that is accepted and kept: what a revision says of it. */
export type KeptBundle = Pick<
  PolicyRevision,
  "version" | "bundle_sha256" | "bundle_bytes" | "tar_sha256" | "tar_bytes" | "statement_sha256"
>;

export type PolicyChange =
  | { readonly kind: "publish"; readonly policy: string; readonly channel: Channel; readonly bundle: KeptBundle }
  | { readonly kind: "promote"; readonly policy: string; readonly from: Channel; readonly to: Channel }
  /** `revision` null: the newest one before that has another bundle. */
  | {
      readonly kind: "roll_back";
      readonly policy: string;
      readonly channel: Channel;
      readonly revision: number | null;
    };

export type ChangeRefusal = "policy_version_taken" | "policy_no_revision" | "policy_too_many" | "not_found";

export type Decided =
  | { readonly state: "refused"; readonly code: ChangeRefusal; readonly detail: string }
  /** The channel has that bundle: nothing is signed. */
  | { readonly state: "unchanged"; readonly revision: PolicyRevision }
  | { readonly state: "changed"; readonly revision: PolicyRevision; readonly targets: TargetsSigned["targets"] };

/** A policy without which the tenant's targets go on; the last revision of each of its channels. */
export interface Removal {
  readonly policy: string;
  readonly stable_revision: number | null;
  readonly canary_revision: number | null;
}

export type DecidedRemoval =
  | Extract<Decided, { state: "refused" }>
  | { readonly state: "removed"; readonly removal: Removal; readonly targets: TargetsSigned["targets"] };

/** Revisions from before a policy was removed are none, but that they were counted, and that their versions have had bytes. */
export interface ChangeFacts {
  readonly targets: TargetsSigned["targets"];
  /** The newest revision of a channel, or null. */
  head(policy: string, channel: Channel): PolicyRevision | null;
  /** The number of the newest revision that a channel ever had, also before the policy was removed; 0: none. */
  counted(policy: string, channel: Channel): number;
  revision(policy: string, channel: Channel, revision: number): PolicyRevision | null;
  /** The newest revision of the channel that has another bundle than this one. */
  before(policy: string, channel: Channel, bundleSha256: string): PolicyRevision | null;
  /** The digest of the bundle that this policy had under that version, on any channel; null where there was none. */
  bundleOf(policy: string, version: string): string | null;
}

export function decideChange(facts: ChangeFacts, change: PolicyChange, now: number): Decided {
  const { policy } = change;
  if (change.kind === "publish") {
    const { version, bundle_sha256: sha256 } = change.bundle;
    const known = facts.bundleOf(policy, version);
    if (known !== null && known !== sha256)
      return refused("policy_version_taken", `${policy} was published with the revision ${version} and other bytes.`);
    return moved(facts, { policy, channel: change.channel, outcome: "published", bundle: change.bundle }, now);
  }
  if (change.kind === "promote") {
    const head = facts.head(policy, change.from);
    if (head === null) return refused("not_found", `There is no policy ${policy} on ${change.from}.`);
    return moved(facts, { policy, channel: change.to, outcome: "promoted", bundle: head }, now);
  }
  const { channel, revision } = change;
  const head = facts.head(policy, channel);
  if (head === null) return refused("not_found", `There is no policy ${policy} on ${channel}.`);
  const to =
    revision === null ? facts.before(policy, channel, head.bundle_sha256) : facts.revision(policy, channel, revision);
  if (to === null)
    return refused(
      "policy_no_revision",
      revision === null
        ? `${policy} never had another bundle on ${channel}.`
        : `${policy} has no revision ${revision} on ${channel}.`,
    );
  return moved(facts, { policy, channel, outcome: "rolled_back", bundle: to }, now);
}

export function decideRemoval(facts: ChangeFacts, policy: string): DecidedRemoval {
  const [stable, canary] = [facts.head(policy, "stable"), facts.head(policy, "canary")];
  if (stable === null && canary === null) return refused("not_found", `There is no policy ${policy}.`);
  const targets = { ...facts.targets };
  for (const channel of channelNames) delete targets[targetPath(policy, channel)];
  const removal = { policy, stable_revision: stable?.revision ?? null, canary_revision: canary?.revision ?? null };
  return { state: "removed", removal, targets };
}

function moved(
  facts: ChangeFacts,
  wish: {
    readonly policy: string;
    readonly channel: Channel;
    readonly outcome: PolicyRevision["outcome"];
    readonly bundle: KeptBundle;
  },
  now: number,
): Decided {
  const { policy, channel, outcome, bundle } = wish;
  const head = facts.head(policy, channel);
  if (head?.bundle_sha256 === bundle.bundle_sha256) return { state: "unchanged", revision: head };
  const { version, bundle_sha256, bundle_bytes, tar_sha256, tar_bytes, statement_sha256 } = bundle;
  const revision: PolicyRevision = {
    policy,
    channel,
    // Beyond those of a policy of that name that was removed: a fetcher follows a channel's revisions upwards alone.
    revision: facts.counted(policy, channel) + 1,
    version,
    bundle_sha256,
    bundle_bytes,
    tar_sha256,
    tar_bytes,
    statement_sha256,
    published_at: new Date(now).toISOString(),
    outcome,
  };
  const targets = { ...facts.targets, [targetPath(policy, channel)]: targetOf(revision) };
  if (Object.keys(targets).length > targetsMax)
    return refused("policy_too_many", `A tenant has at most ${targetsMax} channels of policies.`);
  return { state: "changed", revision, targets };
}

const targetOf = (revision: PolicyRevision): PolicyTarget => ({
  length: revision.bundle_bytes,
  hashes: { sha256: revision.bundle_sha256 },
  custom: {
    tar_sha256: revision.tar_sha256,
    tar_length: revision.tar_bytes,
    revision: revision.revision,
    version: revision.version,
    statement_sha256: revision.statement_sha256,
    published_at: revision.published_at,
  },
});

const refused = (code: ChangeRefusal, detail: string) => ({ state: "refused", code, detail }) as const;
