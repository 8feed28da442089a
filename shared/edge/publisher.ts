// The publisher of one tenant's policies: decides one change after the other, has it signed, and brings it to every
// provider's own store. Called by durable-objects/policy-publisher.ts, whose SQLite and alarm it works with.
//
// What stands where after a crash at each await:
//   bundle and statement into the vault   (workers/api/policies) nothing names them; a retry finds them there
//   targets, snapshot, timestamp signed   nothing: a signature that was not kept names nothing. Ed25519 signs the same again
//   the transaction                       revision, the three documents one version on, event and answer, or none of them;
//                                         from here on it is published, and the alarm brings it to the providers
//   bundle or statement put               it is there or not; no metadata names it at that provider. Put again, same bytes
//   …read back                            `placed` says so, or not: then it is put and read again
//   n.root, n.targets, n.snapshot put     as above: versioned by name, and no timestamp names them at that provider yet
//   the wait for the other providers      nothing was changed; it is waited anew, `barrierMs` at most from the decision
//   timestamp put                         the provider serves the change; it is put again (the same bytes) and read back
//   …read back                            `provider` says so: done. A newer decision meanwhile begins at the top
// A key that is rewritten is rewritten by the one runner of its provider; an older write that comes late is seen by the
// sweep, which reads each timestamp, and puts everything anew where it is another one.
//
// A provider that is down: its runner fails, is told (`behind_since`, `reason`), and tries again by alarm, after a second
// first and a minute at most. The others wait for it for `barrierMs` once, and from then on no more until it is back.

import { sha256Hex, utf8, type Bytes } from "../contract/bytes.ts";
import { canonicalJson, type EventType } from "../contract/events.ts";
import type { PolicyRevision, ProviderState } from "../contract/http-policies.ts";
import { channelNames, type Channel } from "../contract/names.ts";
import type { Clock, Log, Random, Sql } from "../contract/ports.ts";
import { errorName } from "../outbox/drain.ts";
import { storeEvent } from "../outbox/object-outbox.ts";
import type { EventContext } from "../outbox/outbox.ts";
import { decideChange, type PolicyChange } from "./change.ts";
import { PublisherState, type SignedRow } from "./publisher-state.ts";
import { checkRoot } from "./root.ts";
import { fetcherKey, metadataKey, policyKey, statementKey, timestampName } from "./serving-path.ts";
import type { Changed, PolicyHistory, PublisherCall, Refused, RepositoryView, RootPut, SignedTuf } from "./service.ts";
import type { Content, ProviderStore, Vault } from "./stores.ts";
import {
  documentText,
  isDueAgain,
  lifeMs,
  onlineRoles,
  snapshotOf,
  targetsOf,
  timestampOf,
  type OnlineRole,
  type OnlineSigned,
  type RootDocument,
  type TargetsSigned,
  type TufKey,
} from "./tuf.ts";
import { countSignatures } from "./tuf-keys.ts";

/** How long a provider that has everything waits, from the decision on, for the others before its timestamp is put. */
export const barrierMs = 10_000;
/** After a signer that did not sign what was due, or fetchers that could not be read. */
const retryMs = 60_000;
const revisionsListed = 100;

/** A fetcher's key that may read. */
export interface FetcherKey {
  /** Lower-case hex SHA-256 of the key. */
  readonly key_sha256: string;
  readonly fetcher_id: string;
  /** RFC 3339, or null: until it is revoked. */
  readonly expires_at: string | null;
}

export interface PublisherParts {
  readonly sql: Sql;
  readonly tenantId: string;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly providers: readonly ProviderStore[];
  readonly vault: Vault;
  readonly signTuf: (signed: OnlineSigned) => Promise<SignedTuf>;
  readonly tufKeys: () => Promise<Record<OnlineRole, TufKey>>;
  /** Every key of a fetcher of this tenant that is neither revoked nor expired. */
  readonly fetcherKeys: (now: number) => Promise<readonly FetcherKey[]>;
  /** Resolves after so many milliseconds. */
  readonly pause: (ms: number) => Promise<void>;
}

class KeysChanged extends Error {
  override readonly name = "KeysChanged";
}

/** What one provider should have, and does not. */
interface Plan {
  readonly versions: { readonly root: number; readonly targets: number; readonly timestamp: number };
  readonly decidedMs: number;
  /** In the order in which they are put. */
  readonly contents: readonly (readonly [key: string, content: Content])[];
  readonly timestamp: Content;
}

export class Publisher {
  readonly #parts: PublisherParts;
  readonly #state: PublisherState;
  /** The change that is being decided, and those behind it. */
  #queue: Promise<unknown> = Promise.resolve();
  readonly #runners = new Map<string, Promise<void>>();
  /** The timestamp's version whose contents a provider has; not durable: after a restart it is found out again. */
  readonly #ready = new Map<string, number>();
  readonly #waiters = new Set<() => void>();
  #mirroring: Promise<void> | null = null;
  #signAgainAtMs = 0;

  constructor(parts: PublisherParts) {
    this.#parts = parts;
    const names = parts.providers.map(({ name }) => name);
    this.#state = new PublisherState(parts.sql, names);
  }

  /** Decides, has it signed and keeps it; the same intent is answered the same. Bringing it out is `catchUp`'s. */
  change({ principal, intent }: PublisherCall, change: PolicyChange): Promise<Changed> {
    return this.#serially(async (): Promise<Changed> => {
      const now = this.#parts.clock();
      const known = this.#state.recall(intent, now) as PolicyRevision | null;
      if (known !== null) return { ok: true, revision: known, providers: this.providers() };
      if (this.#state.root === null) return rootMissing;
      const decided = decideChange(this.#state, change, now);
      if (decided.state === "refused") return { ok: false, code: decided.code, detail: decided.detail };
      const { revision } = decided;
      if (decided.state === "unchanged") {
        this.#state.sql.transaction(() => this.#state.remember(intent, revision, now));
        return { ok: true, revision, providers: this.providers() };
      }
      const documents = await this.#signed({ targets: decided.targets }, now);
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

  /** Takes the first root or the next one. Everything is signed anew, since the keys may be others. */
  putRoot({ principal, intent }: PublisherCall, tenant: string, root: RootDocument): Promise<RootPut> {
    return this.#serially(async (): Promise<RootPut> => {
      const now = this.#parts.clock();
      const answer = { version: root.signed.version, expires: root.signed.expires };
      const before = this.#state.root;
      const isKnown = this.#state.recall(intent, now) !== null;
      // The root in force, sent again: nothing to do, also under another intent.
      if (isKnown || (before !== null && canonicalJson(before) === canonicalJson(root)))
        return { ok: true, ...answer, providers: this.providers() };
      const keys = await this.#parts.tufKeys().catch((error: unknown) => this.#noSigner(error));
      if (keys === null) return signerAway;
      const checked = await checkRoot(root, before, keys, now);
      if (!checked.ok) return { ok: false, code: "policy_root_invalid", detail: checked.reason };
      const documents = await this.#signed({ targets: this.#state.targets, root }, now);
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
    return { root: this.#state.root, policies, providers: this.providers() };
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
    await this.#signDue();
    const now = this.#parts.clock();
    const behind = this.#parts.providers.filter(
      ({ name }) => !this.#state.isCurrent(name) && (this.#state.provider(name).retry_ms ?? 0) <= now,
    );
    await Promise.all([...behind.map((store) => this.#run(store)), this.#mirror()]);
  }

  /** The cron's: as catchUp, with fetchers read anew, and each provider's timestamp looked at. */
  async sweep(): Promise<void> {
    this.#state.nudgeFetchers();
    await Promise.all(this.#parts.providers.map((store) => this.#look(store)));
    await this.catchUp();
  }

  /** When `catchUp` has something to do; null without a repository. */
  nextDue(): number | null {
    const documents = this.#state.documents();
    if (documents === null) return null;
    const now = this.#parts.clock();
    const due = onlineRoles.map((role) => Date.parse(documents[role].expires) - (lifeMs[role] * 2) / 3);
    const times = [Math.max(this.#signAgainAtMs, Math.min(...due))];
    for (const { name } of this.#parts.providers) {
      const { retry_ms, fetchers_retry_ms } = this.#state.provider(name);
      if (!this.#state.isCurrent(name)) times.push(retry_ms ?? now);
      if (this.#state.fetchersWaiting() !== null) times.push(fetchers_retry_ms ?? now);
    }
    return Math.max(now, Math.min(...times));
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

  #noSigner(error: unknown): null {
    this.#parts.log("error", "the signer did not answer", { tenant_id: this.#parts.tenantId, error: errorName(error) });
    return null;
  }

  /**
   * The documents that a change makes, signed: targets where they change, and what names them. Under the root given, else
   * the one in force. A value where the signer did not sign.
   */
  async #signed(
    next: { readonly targets?: TargetsSigned["targets"]; readonly snapshot?: true; readonly root?: RootDocument },
    now: number,
  ): Promise<{ signed: OnlineSigned; text: string }[] | Refused> {
    const root = next.root ?? this.#state.root;
    if (root === null) return rootMissing;
    const before = this.#state.documents();
    const documents: { signed: OnlineSigned; text: string }[] = [];
    const sign = async (signed: OnlineSigned): Promise<{ version: number; text: string }> => {
      const text = await this.#signOne(signed, root);
      documents.push({ signed, text });
      return { version: signed.version, text };
    };
    const versionOf = (role: OnlineRole): number => (before?.[role].version ?? 0) + 1;
    try {
      let targets: Pick<SignedRow, "version" | "text"> | undefined = before?.targets;
      let snapshot: Pick<SignedRow, "version" | "text"> | undefined = before?.snapshot;
      if (next.targets !== undefined || targets === undefined)
        targets = await sign(targetsOf(versionOf("targets"), next.targets ?? {}, now));
      if (next.targets !== undefined || next.snapshot === true || snapshot === undefined)
        snapshot = await sign(await snapshotOf(versionOf("snapshot"), targets, now));
      await sign(await timestampOf(versionOf("timestamp"), snapshot, now));
      return documents;
    } catch (error) {
      if (error instanceof KeysChanged) return { ok: false, code: "policy_keys_changed", detail: error.message };
      this.#noSigner(error);
      return signerAway;
    }
  }

  async #signOne(signed: OnlineSigned, { signed: root }: RootDocument): Promise<string> {
    const answer = await this.#parts.signTuf(signed);
    if (!answer.ok) throw new Error(`the signer refused to sign ${signed._type}: ${answer.reason}`);
    const { keyids, threshold } = root.roles[signed._type];
    if ((await countSignatures(signed, [answer.signature], keyids, root.keys)) < threshold)
      throw new KeysChanged(`Root ${root.version} does not name the signer's ${signed._type} key.`);
    return documentText({ signed, signatures: [answer.signature] });
  }

  /** Signs anew what a third of its life has passed of. */
  #signDue(): Promise<void> {
    return this.#serially(async () => {
      const now = this.#parts.clock();
      const documents = this.#state.documents();
      if (documents === null || now < this.#signAgainAtMs) return;
      const isDue = (role: OnlineRole): boolean => isDueAgain(documents[role].expires, role, now);
      if (!onlineRoles.some(isDue)) return;
      const signed = await this.#signed(
        isDue("targets") ? { targets: this.#state.targets } : isDue("snapshot") ? { snapshot: true } : {},
        now,
      );
      if (Array.isArray(signed)) this.#state.sql.transaction(() => this.#state.storeSigned(signed, now));
      else this.#signAgainAtMs = now + retryMs;
    });
  }

  /** One runner a provider: one that runs already takes up what was decided meanwhile. */
  #run(store: ProviderStore): Promise<void> {
    const running =
      this.#runners.get(store.name) ?? this.#bringOut(store).finally(() => this.#runners.delete(store.name));
    this.#runners.set(store.name, running);
    return running;
  }

  async #bringOut(store: ProviderStore): Promise<void> {
    const { clock, log, tenantId } = this.#parts;
    try {
      while (!this.#state.isCurrent(store.name)) {
        const plan = await this.#plan();
        if (plan === null) return;
        await this.#place(store, plan.contents);
        this.#ready.set(store.name, plan.versions.timestamp);
        this.#wake();
        await this.#othersAreReady(store.name, plan);
        const { tenant } = this.#state;
        await putAndRead(store, metadataKey(tenant!, timestampName), plan.timestamp);
        const needed = plan.contents.map(([key]) => key);
        this.#state.noteFlipped(store.name, plan.versions, needed);
      }
    } catch (error) {
      this.#state.noteFailed(store.name, reasonOf(error), clock());
      log("warn", "a provider's store is behind, will try again", {
        tenant_id: tenantId,
        provider: store.name,
        error: errorName(error),
      });
    } finally {
      this.#wake();
    }
  }

  /** As the state is now: what names something comes after it. */
  async #plan(): Promise<Plan | null> {
    const documents = this.#state.documents();
    const { tenant, targets } = this.#state;
    if (documents === null || tenant === null) return null;
    const roots = this.#state.rootTexts;
    const { vault } = this.#parts;
    const contents = new Map<string, Content>();
    const keep = (key: string, sha256: string, contentType: string): void =>
      void contents.set(key, { sha256, contentType, immutable: true, open: () => vault.open(key) });
    for (const { hashes, custom } of Object.values(targets)) {
      keep(policyKey(tenant, hashes.sha256), hashes.sha256, "application/gzip");
      keep(statementKey(tenant, custom.statement_sha256), custom.statement_sha256, "application/json");
    }
    const add = async (name: string, text: string): Promise<void> =>
      void contents.set(metadataKey(tenant, name), await jsonContent(text, true));
    await add(`${documents.targets.version}.targets.json`, documents.targets.text);
    await add(`${documents.snapshot.version}.snapshot.json`, documents.snapshot.text);
    // Last, since a reader that follows a new root believes the old keys no more.
    for (const { version, body } of roots) await add(`${version}.root.json`, body);
    return {
      versions: {
        root: roots.at(-1)?.version ?? 0,
        targets: documents.targets.version,
        timestamp: documents.timestamp.version,
      },
      decidedMs: documents.timestamp.decided_ms,
      contents: [...contents],
      timestamp: await jsonContent(documents.timestamp.text, false),
    };
  }

  async #place(store: ProviderStore, contents: Plan["contents"]): Promise<void> {
    const placed = this.#state.placed(store.name);
    for (const [key, content] of contents) {
      if (placed.get(key) === content.sha256) continue;
      await putAndRead(store, key, content);
      this.#state.notePlaced(store.name, key, content.sha256);
    }
  }

  /** Until every other provider has what the timestamp names, or has failed, or `barrierMs` have passed. */
  async #othersAreReady(name: string, { versions, decidedMs }: Plan): Promise<void> {
    const others = this.#parts.providers.filter((store) => store.name !== name);
    const isReady = (): boolean =>
      others.every(
        (store) =>
          Math.max(this.#ready.get(store.name) ?? 0, this.#state.provider(store.name).timestamp_version) >=
            versions.timestamp || this.#state.provider(store.name).behind_since_ms !== null,
      );
    const leftMs = decidedMs + barrierMs - this.#parts.clock();
    if (isReady() || leftMs <= 0) return;
    let waiter = (): void => undefined;
    const ready = new Promise<void>((resolve) => {
      waiter = () => isReady() && resolve();
      this.#waiters.add(waiter);
    });
    await Promise.race([ready, this.#parts.pause(Math.min(leftMs, barrierMs))]);
    this.#waiters.delete(waiter);
  }

  #wake(): void {
    for (const waiter of this.#waiters) waiter();
  }

  /** A provider whose timestamp is not the one that was read back has lost something, or a late write came to it. */
  async #look(store: ProviderStore): Promise<void> {
    const { tenant } = this.#state;
    const timestamp = this.#state.signed("timestamp");
    if (tenant === null || timestamp === null || !this.#state.isCurrent(store.name) || this.#runners.has(store.name))
      return;
    try {
      const found = await store.digest(metadataKey(tenant, timestampName));
      const isSame = found === (await sha256Hex(utf8(timestamp.text)));
      const isNewest = this.#state.signed("timestamp")?.version === timestamp.version;
      if (!isSame && isNewest && !this.#runners.has(store.name)) {
        this.#parts.log("error", "a provider's store lost what it had: all of it is put anew", {
          provider: store.name,
        });
        this.#state.forgetPlaced(store.name);
      }
    } catch (error) {
      // Down for the moment: what it has is not known, and what it serves is not ours to change now.
      this.#parts.log("warn", "a provider's store does not answer", { provider: store.name, error: errorName(error) });
    }
  }

  #mirror(): Promise<void> {
    this.#mirroring ??= this.#mirrorAll().finally(() => {
      this.#mirroring = null;
    });
    return this.#mirroring;
  }

  /** Who may read, in each store as it is in Postgres. */
  async #mirrorAll(): Promise<void> {
    const nudge = this.#state.fetchersWaiting();
    const { tenant } = this.#state;
    const now = this.#parts.clock();
    const isDue = ({ name }: ProviderStore): boolean => (this.#state.provider(name).fetchers_retry_ms ?? 0) <= now;
    if (nudge === null || tenant === null || !this.#parts.providers.some(isDue)) return;
    try {
      const wanted = new Map<string, Content>();
      for (const { key_sha256, fetcher_id, expires_at } of await this.#parts.fetcherKeys(now))
        wanted.set(fetcherKey(key_sha256), await jsonContent(canonicalJson({ fetcher_id, tenant, expires_at }), false));
      const done = await Promise.all(this.#parts.providers.map((store) => this.#mirrorTo(store, wanted, now)));
      if (done.every((isDone) => isDone)) return this.#state.noteMirrored(nudge);
      // All of them wait for the one that failed, unless there is news: who is up is not asked again and again meanwhile.
      if (this.#state.fetchersWaiting() === nudge)
        for (const { name } of this.#parts.providers) this.#state.noteFetchersRetry(name, now + retryMs);
    } catch (error) {
      this.#parts.log("warn", "the fetchers' keys were not read, will try again", { error: errorName(error) });
      for (const { name } of this.#parts.providers) this.#state.noteFetchersRetry(name, now + retryMs);
    }
  }

  async #mirrorTo(store: ProviderStore, wanted: ReadonlyMap<string, Content>, now: number): Promise<boolean> {
    try {
      const placed = this.#state.placed(store.name);
      // Who may read no more goes first.
      for (const key of placed.keys()) {
        if (!key.startsWith("fetchers/") || wanted.has(key)) continue;
        await store.remove(key);
        if ((await store.digest(key)) !== null) throw new StoreDiffers("still_there");
        this.#state.noteRemoved(store.name, key);
      }
      for (const [key, content] of wanted) {
        if (placed.get(key) === content.sha256) continue;
        // Noted before it is put: what may be there is known, so that it can be taken back.
        this.#state.notePlaced(store.name, key, "");
        await putAndRead(store, key, content);
        this.#state.notePlaced(store.name, key, content.sha256);
      }
      this.#state.noteFetchersRetry(store.name, null);
      return true;
    } catch (error) {
      this.#parts.log("warn", "fetchers' keys were not mirrored, will try again", {
        provider: store.name,
        error: errorName(error),
      });
      this.#state.noteFetchersRetry(store.name, now + retryMs);
      return false;
    }
  }
}

const changeEvents = {
  published: "mc.policy.published",
  promoted: "mc.policy.promoted",
  rolled_back: "mc.policy.rolled_back",
} as const satisfies Record<PolicyRevision["outcome"], EventType>;

const rootMissing: Refused = {
  ok: false,
  code: "policy_root_missing",
  detail: "The tenant's policies have no root of trust yet.",
};
const signerAway: Refused = {
  ok: false,
  code: "policy_unavailable",
  detail: "The signer did not sign. Nothing was changed.",
};

/** What a provider gave back is not what was put. Its message is a machine word. */
class StoreDiffers extends Error {
  override readonly name = "StoreDiffers";
}

const reasonOf = (error: unknown): string => (error instanceof StoreDiffers ? error.message : "store_unavailable");

async function putAndRead(store: ProviderStore, key: string, content: Content): Promise<void> {
  await store.put(key, content);
  if ((await store.digest(key)) !== content.sha256) throw new StoreDiffers("digest_differs");
}

async function jsonContent(text: string, immutable: boolean): Promise<Content> {
  const bytes = utf8(text);
  return {
    sha256: await sha256Hex(bytes),
    contentType: "application/json",
    immutable,
    open: () => Promise.resolve({ bytes: bytes.length, body: once(bytes) }),
  };
}

async function* once(bytes: Bytes): AsyncGenerator<Uint8Array> {
  yield bytes;
}
