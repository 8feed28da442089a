// The publisher of one tenant's policies: decides one change after the other, has it signed, and brings it to every
// provider's own store. Called by durable-objects/policy-publisher.ts, whose SQLite and alarm it works with.
//
// What stands where after a crash at each await; publisher-courier.ts and publisher-mirror.ts begin with theirs:
//   deltas, bundle and statement kept     (workers/api/policies) in the vault: nothing names them; a retry finds them there
//   deltas looked for in the vault        nothing
//   targets, snapshot, timestamp signed   nothing: a signature that was not kept names nothing. Ed25519 signs the same again
//   the transaction                       revision, the three documents one version on, event and answer, or none of them;
//                                         from here on it is published, and the alarm brings it to the providers

import { sha256Hex, utf8 } from "../contract/bytes.ts";
import { canonicalJson, type EventType } from "../contract/events.ts";
import type { PolicyRevision, PolicySigning, ProviderState } from "../contract/http-policies.ts";
import { channelNames, type Channel } from "../contract/names.ts";
import type { Random, Sql } from "../contract/ports.ts";
import { storeEvent } from "../outbox/object-outbox.ts";
import type { EventContext } from "../outbox/outbox.ts";
import { decideChange, decideRemoval, type PolicyChange } from "./change.ts";
import { basesLookedThrough, nameDeltas } from "./name-deltas.ts";
import { Courier, type CourierParts } from "./publisher-courier.ts";
import { FetcherMirror, type MirrorParts } from "./publisher-mirror.ts";
import { rootMissing, signerAway, Signing, type SigningParts } from "./publisher-signing.ts";
import { PublisherState } from "./publisher-state.ts";
import { checkRoot } from "./root.ts";
import type { Changed, PolicyHistory, PublisherCall, Refused, Removed, RepositoryView, RootPut } from "./service.ts";
import { documentText, isDueAgain, lifeMs, onlineRoles, type OnlineRole, type RootDocument } from "./tuf.ts";

/** After a signer that did not sign what was due. */
const retryMs = 60_000;
const revisionsListed = 100;

export interface PublisherParts extends SigningParts, CourierParts, MirrorParts {
  readonly sql: Sql;
  readonly random: Random;
}

type SignedRemoval = Extract<Removed, { ok: true }>["removal"];

export class Publisher {
  readonly #parts: PublisherParts;
  readonly #state: PublisherState;
  readonly #signing: Signing;
  readonly #courier: Courier;
  readonly #mirror: FetcherMirror;
  /** The change that is being decided, and those behind it. */
  #queue: Promise<unknown> = Promise.resolve();
  #signAgainAtMs = 0;

  constructor(parts: PublisherParts) {
    this.#parts = parts;
    const names = parts.providers.map(({ name }) => name);
    this.#state = new PublisherState(parts.sql, names);
    this.#signing = new Signing(parts, this.#state);
    this.#courier = new Courier(parts, this.#state);
    this.#mirror = new FetcherMirror(parts, this.#state);
  }

  /** Decides, has it signed and keeps it; the same intent is answered the same. Bringing it out is `catchUp`'s. */
  change({ principal, intent }: PublisherCall, change: PolicyChange): Promise<Changed> {
    return this.#serially(async (): Promise<Changed> => {
      const now = this.#parts.clock();
      const known = this.#state.recall(intent, now);
      if (known === "conflict") return otherBody;
      if (known !== null) return { ok: true, revision: known.answer as PolicyRevision, providers: this.providers() };
      if (this.#state.root === null) return rootMissing;
      const decided = decideChange(this.#state, change, now);
      if (decided.state === "refused") return { ok: false, code: decided.code, detail: decided.detail };
      const { revision } = decided;
      if (decided.state === "unchanged") {
        this.#state.sql.transaction(() => this.#state.remember(intent, revision, now));
        return { ok: true, revision, providers: this.providers() };
      }
      const before = this.#state.revisions(revision.policy, revision.channel, basesLookedThrough);
      const targets = await nameDeltas(this.#parts, this.#state.tenant!, revision, before, decided.targets);
      const documents = await this.#signing.sign({ targets }, now);
      if (!Array.isArray(documents)) return documents;
      this.#state.sql.transaction(() => {
        this.#state.storeSigned(documents, now);
        this.#state.storeRevision(revision);
        this.#state.remember(intent, revision, now);
        storeEvent(this.#state.sql, this.#context(principal, now), changeEvents[revision.outcome], {
          policy: revision.policy,
          channel: revision.channel,
          revision: revision.revision,
          bundle_sha256: revision.bundle_sha256,
          targets_version: documents[0]!.signed.version,
          outcome: revision.outcome,
        });
      });
      return { ok: true, revision, providers: this.providers() };
    });
  }

  /** As `change`, but that the policy's channels are gone from the targets. What its bytes were stays with the providers for a while. */
  remove({ principal, intent }: PublisherCall, policy: string): Promise<Removed> {
    return this.#serially(async (): Promise<Removed> => {
      const now = this.#parts.clock();
      const known = this.#state.recall(intent, now);
      if (known === "conflict") return otherBody;
      if (known !== null) return { ok: true, removal: known.answer as SignedRemoval, providers: this.providers() };
      if (this.#state.root === null) return rootMissing;
      const decided = decideRemoval(this.#state, policy);
      if (decided.state === "refused") return { ok: false, code: decided.code, detail: decided.detail };
      const documents = await this.#signing.sign({ targets: decided.targets }, now);
      if (!Array.isArray(documents)) return documents;
      const removal = { ...decided.removal, targets_version: documents[0]!.signed.version };
      this.#state.sql.transaction(() => {
        this.#state.storeSigned(documents, now);
        this.#state.storeRemoval(policy);
        this.#state.remember(intent, removal, now);
        const context = this.#context(principal, now);
        storeEvent(this.#state.sql, context, "mc.policy.removed", { ...removal, outcome: "removed" });
      });
      return { ok: true, removal, providers: this.providers() };
    });
  }

  /** Takes the first root or the next one. Everything is signed anew, since the keys may be others. */
  putRoot({ principal, intent }: PublisherCall, tenant: string, root: RootDocument): Promise<RootPut> {
    return this.#serially(async (): Promise<RootPut> => {
      const now = this.#parts.clock();
      const answer = { version: root.signed.version, expires: root.signed.expires };
      const before = this.#state.root;
      const known = this.#state.recall(intent, now);
      if (known === "conflict") return otherBody;
      // The root in force, sent again: nothing to do, also under another intent.
      if (known !== null || (before !== null && canonicalJson(before) === canonicalJson(root)))
        return { ok: true, ...answer, providers: this.providers() };
      const keys = await this.#signing.keys();
      if (keys === null) return signerAway;
      const checked = await checkRoot(root, before, keys, now);
      if (!checked.ok) return { ok: false, code: "policy_root_invalid", detail: checked.reason };
      const documents = await this.#signing.sign({ targets: this.#state.targets, root }, now);
      if (!Array.isArray(documents)) return documents;
      const text = documentText(root);
      const sha256 = await sha256Hex(utf8(text));
      this.#state.sql.transaction(() => {
        this.#state.storeRoot(tenant, root.signed.version, text);
        this.#state.storeSigned(documents, now);
        this.#state.remember(intent, answer, now);
        storeEvent(this.#state.sql, this.#context(principal, now), "mc.policy.root_changed", {
          root_version: root.signed.version,
          root_sha256: sha256,
          outcome: before === null ? "created" : "rotated",
        });
      });
      return { ok: true, ...answer, providers: this.providers() };
    });
  }

  view(): RepositoryView {
    const policies = this.#state.policies().map((name) => ({ name, channels: this.#heads(name) }));
    return { root: this.#state.root, signing: this.#signingNow(), policies, providers: this.providers() };
  }

  #signingNow(): PolicySigning {
    const trouble = this.#state.signingTrouble;
    const documents = this.#state.documents();
    const ends = documents === null ? [] : onlineRoles.map((role) => documents[role].expires);
    return {
      failing_since: trouble === null ? null : new Date(trouble.since_ms).toISOString(),
      reason: trouble?.reason ?? null,
      expires: ends.toSorted()[0] ?? null,
    };
  }

  policy(name: string): PolicyHistory | null {
    const revisions = channelNames.flatMap((channel) => this.#state.revisions(name, channel, revisionsListed));
    if (revisions.length === 0) return null;
    const newest = revisions.toSorted((left, right) => (left.published_at < right.published_at ? 1 : -1));
    return { name, channels: this.#heads(name), revisions: newest.slice(0, revisionsListed) };
  }

  providers(): ProviderState[] {
    return this.#parts.providers.map(({ name }) => {
      const row = this.#state.provider(name);
      return {
        name,
        state: this.#state.isCurrent(name) ? "current" : "behind",
        root_version: row.root_version,
        targets_version: row.targets_version,
        timestamp_version: row.timestamp_version,
        behind_since: row.behind_since_ms === null ? null : new Date(row.behind_since_ms).toISOString(),
        attempts: row.attempts,
        reason: row.reason,
      };
    });
  }

  nudgeFetchers(): void {
    this.#state.nudgeFetchers();
  }

  /** Signs again what is due, brings out what is not out, mirrors fetchers. What failed has its next time; throws for defects only. */
  async catchUp(): Promise<void> {
    // A signer that is slow, and a store that hangs, hold up no revocation.
    await Promise.all([this.#signDue().then(() => this.#courier.bringOut()), this.#mirror.mirror()]);
  }

  /** The cron's: as catchUp, with fetchers read anew, each provider's timestamp looked at, and what nothing names collected. */
  async sweep(): Promise<void> {
    this.#state.nudgeFetchers();
    await Promise.all([this.catchUp(), this.#courier.look().then(() => this.#courier.collect())]);
  }

  /** When `catchUp` has something to do; null without a repository. */
  nextDue(): number | null {
    const documents = this.#state.documents();
    if (documents === null) return null;
    const now = this.#parts.clock();
    const due = onlineRoles.map((role) => Date.parse(documents[role].expires) - (lifeMs[role] * 2) / 3);
    const signMs = Math.max(this.#signAgainAtMs, Math.min(...due));
    return Math.max(now, Math.min(signMs, this.#courier.nextDue(now), this.#mirror.nextDue(now)));
  }

  #heads(policy: string): Record<Channel, PolicyRevision | null> {
    return { stable: this.#state.head(policy, "stable"), canary: this.#state.head(policy, "canary") };
  }

  #context(principal: string | null, now: number): EventContext {
    const { tenantId, random } = this.#parts;
    return { tenant_id: tenantId, principal, source: "edge", now, random };
  }

  /** One after the other: a decision and its signatures belong together. */
  #serially<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#queue.then(work);
    this.#queue = done.catch(() => undefined);
    return done;
  }

  /** Signs anew what a third of its life has passed of. */
  #signDue(): Promise<void> {
    return this.#serially(async () => {
      const now = this.#parts.clock();
      const documents = this.#state.documents();
      if (documents === null || now < this.#signAgainAtMs) return;
      const isDue = (role: OnlineRole): boolean => isDueAgain(documents[role].expires, role, now);
      if (!onlineRoles.some(isDue)) return;
      const signed = await this.#signing.sign(
        isDue("targets") ? { targets: this.#state.targets } : isDue("snapshot") ? { snapshot: true } : {},
        now,
      );
      if (Array.isArray(signed)) this.#state.sql.transaction(() => this.#state.storeSigned(signed, now));
      else this.#signAgainAtMs = now + retryMs;
    });
  }
}

const otherBody: Refused = {
  ok: false,
  code: "idempotency_conflict",
  detail: "This Idempotency-Key was sent before on this route, with another body.",
};

const changeEvents = {
  published: "mc.policy.published",
  promoted: "mc.policy.promoted",
  rolled_back: "mc.policy.rolled_back",
} as const satisfies Record<PolicyRevision["outcome"], EventType>;
