// What a tenant's PolicyPublisher object remembers: roots, signed metadata, revisions, what each provider has, and its
// outbox, in the SQLite of the object. Called by publisher.ts alone; each method that writes is one transaction.

import type { BundleOrder, BundleVersion } from "../contract/bundle-order.ts";
import { policyRevision, type PolicyRevision, type signingReasons } from "../contract/http-policies.ts";
import type { Channel } from "../contract/names.ts";
import type { Sql } from "../contract/ports.ts";
import { objectOutboxSchema } from "../outbox/object-outbox.ts";
import type { ChangeFacts } from "./change.ts";
import type { Intent } from "./service.ts";
import {
  rootDocument,
  targetsSigned,
  type OnlineRole,
  type OnlineSigned,
  type RootDocument,
  type TargetsSigned,
} from "./tuf.ts";

/** An intent (Idempotency-Key) names the same answer for this long: the window of idempotency. */
const intentWindowMs = 24 * 3_600_000;
/** Of one policy on one channel. */
const revisionsKept = 1_000;
const retryFirstMs = 1_000;
const retryMaxMs = 60_000;

const schema = `
  ${objectOutboxSchema}
  create table if not exists repository (
    only integer primary key check (only = 1), tenant text not null, fetchers_nudged integer not null default 1
  );
  create table if not exists taken_back (
    provider text not null, key text not null, taken_ms integer not null, looked_ms integer not null,
    primary key (provider, key)
  );
  create table if not exists mirror (provider text primary key, mirrored integer not null default 0, retry_ms integer);
  create table if not exists root (version integer primary key, body text not null);
  create table if not exists signed (
    role text primary key, version integer not null, body text not null, expires text not null, decided_ms integer not null
  );
  create table if not exists revision (
    policy text not null, channel text not null, revision integer not null, version text not null,
    bundle_sha256 text not null, body text not null, primary key (policy, channel, revision)
  );
  create table if not exists version (
    policy text not null, version text not null, bundle_sha256 text not null, primary key (policy, version)
  ) without rowid;
  create table if not exists removal (policy text primary key, stable integer not null, canary integer not null);
  create table if not exists answered (
    claim_sha256 text primary key, body_sha256 text not null, answer text not null, created_ms integer not null
  );
  create table if not exists signing_trouble (
    only integer primary key check (only = 1), since_ms integer not null, reason text not null
  );
  create table if not exists placed (
    provider text not null, key text not null, sha256 text not null, primary key (provider, key)
  );
  -- Of fetchers' keys and workloads: what was put under a key, or may have been.
  create table if not exists mirrored_content (
    provider text not null, key text not null, sha256 text not null, noted_ms integer not null,
    primary key (provider, key, sha256)
  );
  create table if not exists trust_placed (
    provider text not null, key text not null, sequence integer not null, sha256 text not null,
    primary key (provider, key)
  );
  -- Of the document of the highest sequence, and of all.
  create table if not exists trust_distrusts (
    provider text not null, key text not null, newest integer not null, most integer not null,
    primary key (provider, key)
  );
  -- Of which statement of the trust domain what was placed was; no row: of before this was noted.
  create table if not exists trust_stated (
    provider text not null, key text not null, stated_ms integer not null, primary key (provider, key)
  );
  create table if not exists unnamed (
    provider text not null, key text not null, since_ms integer not null, primary key (provider, key)
  );
  create table if not exists provider (
    name text primary key, root_version integer not null default 0, targets_version integer not null default 0,
    timestamp_version integer not null default 0, behind_since_ms integer, attempts integer not null default 0,
    retry_ms integer, reason text
  );
`;

/** Of a row of `revision`: it came after the policy was removed, if it ever was. */
const sinceRemoval = `revision > coalesce((
  select case revision.channel when 'stable' then stable else canary end from removal
  where removal.policy = revision.policy), 0)`;

/** A machine word: why nothing is signed. */
export type SigningReason = (typeof signingReasons)[number];

export interface SignedRow {
  readonly version: number;
  /** The document as it lies in the stores. */
  readonly text: string;
  readonly expires: string;
  readonly decided_ms: number;
}

export interface ProviderRow {
  readonly root_version: number;
  readonly targets_version: number;
  readonly timestamp_version: number;
  /** Since when it does not take what it should; null while it does. */
  readonly behind_since_ms: number | null;
  readonly attempts: number;
  readonly retry_ms: number | null;
  readonly reason: string | null;
}

export class PublisherState implements ChangeFacts {
  readonly sql: Sql;

  constructor(sql: Sql, providers: readonly string[]) {
    this.sql = sql;
    sql.exec(schema);
    for (const name of providers) {
      sql.exec("insert into provider (name) values (?) on conflict do nothing", name);
      sql.exec("insert into mirror (provider) values (?) on conflict do nothing", name);
    }
    // Once, for what was placed before contents were kept by themselves.
    if (sql.exec("select 1 from mirrored_content limit 1").length === 0)
      sql.exec(
        `insert or ignore into mirrored_content select provider, key, sha256, 0 from placed
         where (key like 'fetchers/%' or key like 'workloads/%') and sha256 <> ''`,
      );
    // Once, for a repository from before versions were kept by themselves.
    if (sql.exec("select 1 from version limit 1").length === 0)
      sql.exec("insert or ignore into version select policy, version, bundle_sha256 from revision");
  }

  /** The tenant's slug; null before the first root. */
  get tenant(): string | null {
    return this.sql.exec<{ tenant: string }>("select tenant from repository")[0]?.tenant ?? null;
  }

  get root(): RootDocument | null {
    const [row] = this.sql.exec<{ body: string }>("select body from root order by version desc limit 1");
    return row === undefined ? null : rootDocument.parse(JSON.parse(row.body));
  }

  get rootTexts(): { version: number; body: string }[] {
    return this.sql.exec("select version, body from root order by version");
  }

  get targets(): TargetsSigned["targets"] {
    const row = this.signed("targets");
    return row === null ? {} : targetsSigned.parse(JSON.parse(row.text).signed).targets;
  }

  signed(role: OnlineRole): SignedRow | null {
    const [row] = this.sql.exec<{ version: number; text: string; expires: string; decided_ms: number }>(
      "select version, body as text, expires, decided_ms from signed where role = ?",
      role,
    );
    return row ?? null;
  }

  /** Within a transaction: the documents that were signed, each one version on. Throws where another came before. */
  storeSigned(documents: readonly { readonly signed: OnlineSigned; readonly text: string }[], now: number): void {
    for (const { signed, text } of documents) {
      const before = this.sql.exec<{ version: number }>("select version from signed where role = ?", signed._type)[0];
      if (signed.version !== (before?.version ?? 0) + 1)
        throw new Error(`two documents were signed as ${signed._type}`);
      this.sql.exec(
        `insert into signed values (?, ?, ?, ?, ?) on conflict (role) do update set version = excluded.version,
           body = excluded.body, expires = excluded.expires, decided_ms = excluded.decided_ms`,
        signed._type,
        signed.version,
        text,
        signed.expires,
        now,
      );
    }
  }

  /** Since when nothing is signed, and why; null while what is asked is signed. */
  get signingTrouble(): { readonly since_ms: number; readonly reason: SigningReason } | null {
    return (
      this.sql.exec<{ since_ms: number; reason: SigningReason }>("select since_ms, reason from signing_trouble")[0] ??
      null
    );
  }

  noteSigningTrouble(reason: SigningReason, now: number): void {
    this.sql.exec(
      "insert into signing_trouble values (1, ?, ?) on conflict (only) do update set reason = excluded.reason",
      now,
      reason,
    );
  }

  forgetSigningTrouble(): void {
    this.sql.exec("delete from signing_trouble");
  }

  /** Within a transaction. */
  storeRoot(tenant: string, version: number, text: string): void {
    this.sql.exec("insert into repository (only, tenant) values (1, ?) on conflict (only) do nothing", tenant);
    this.sql.exec("insert into root values (?, ?)", version, text);
  }

  /** Within a transaction. What came before is none of the policy's revisions any more; it stays counted. */
  storeRemoval(policy: string): void {
    this.sql.exec(
      `insert into removal values (?, ?, ?)
       on conflict (policy) do update set stable = excluded.stable, canary = excluded.canary`,
      policy,
      this.counted(policy, "stable"),
      this.counted(policy, "canary"),
    );
  }

  counted(policy: string, channel: Channel): number {
    const [row] = this.sql.exec<{ newest: number | null }>(
      "select max(revision) as newest from revision where policy = ? and channel = ?",
      policy,
      channel,
    );
    return row?.newest ?? 0;
  }

  /** Within a transaction. */
  storeRevision(revision: PolicyRevision): void {
    const { policy, channel, version, bundle_sha256: sha256 } = revision;
    const body = JSON.stringify(revision);
    this.sql.exec(
      "insert into revision values (?, ?, ?, ?, ?, ?)",
      policy,
      channel,
      revision.revision,
      version,
      sha256,
      body,
    );
    this.sql.exec(
      "delete from revision where policy = ? and channel = ? and revision <= ?",
      policy,
      channel,
      revision.revision - revisionsKept,
    );
    this.sql.exec("insert or ignore into version values (?, ?, ?)", policy, version, sha256);
  }

  head(policy: string, channel: Channel): PolicyRevision | null {
    return this.revisions(policy, channel, 1)[0] ?? null;
  }

  revision(policy: string, channel: Channel, revision: number): PolicyRevision | null {
    return this.#one("policy = ? and channel = ? and revision = ?", policy, channel, revision);
  }

  before(policy: string, channel: Channel, bundleSha256: string): PolicyRevision | null {
    return this.#one("policy = ? and channel = ? and bundle_sha256 <> ?", policy, channel, bundleSha256);
  }

  bundleOf(policy: string, version: string): string | null {
    const [row] = this.sql.exec<{ bundle_sha256: string }>(
      "select bundle_sha256 from version where policy = ? and version = ?",
      policy,
      version,
    );
    return row?.bundle_sha256 ?? null;
  }

  #one(where: string, ...values: (string | number)[]): PolicyRevision | null {
    const [row] = this.sql.exec<{ body: string }>(
      `select body from revision where ${where} and ${sinceRemoval} order by revision desc limit 1`,
      ...values,
    );
    return row === undefined ? null : policyRevision.parse(JSON.parse(row.body));
  }

  /** Newest first, at most `limit`. */
  revisions(policy: string, channel: Channel, limit: number): PolicyRevision[] {
    return this.sql
      .exec<{ body: string }>(
        `select body from revision where policy = ? and channel = ? and ${sinceRemoval} order by revision desc limit ?`,
        policy,
        channel,
        limit,
      )
      .map(({ body }) => policyRevision.parse(JSON.parse(body)));
  }

  /** Names in order. */
  policies(): string[] {
    return this.sql
      .exec<{ policy: string }>(`select distinct policy from revision where ${sinceRemoval} order by policy`)
      .map(({ policy }) => policy);
  }

  /** What this intent was answered; null: nothing yet, "conflict": it came with another body. Forgets what is too old. */
  recall(intent: Intent | null, now: number): { readonly answer: unknown } | "conflict" | null {
    this.sql.exec("delete from answered where created_ms <= ?", now - intentWindowMs);
    if (intent === null) return null;
    const [row] = this.sql.exec<{ body_sha256: string; answer: string }>(
      "select body_sha256, answer from answered where claim_sha256 = ?",
      intent.claim_sha256,
    );
    if (row === undefined) return null;
    return row.body_sha256 === intent.body_sha256 ? { answer: JSON.parse(row.answer) as unknown } : "conflict";
  }

  /** Within the transaction of the change. */
  remember(intent: Intent | null, answer: unknown, now: number): void {
    if (intent === null) return;
    const { claim_sha256, body_sha256 } = intent;
    this.sql.exec("insert into answered values (?, ?, ?, ?)", claim_sha256, body_sha256, JSON.stringify(answer), now);
  }

  provider(name: string): ProviderRow {
    const [row] = this.sql.exec<Record<keyof ProviderRow, never>>("select * from provider where name = ?", name);
    if (row === undefined) throw new Error(`no provider ${name}`);
    return row;
  }

  isCurrent(name: string): boolean {
    const [row] = this.sql.exec<{ version: number }>("select version from signed where role = 'timestamp'");
    return row === undefined || this.provider(name).timestamp_version >= row.version;
  }

  /** Digests by key: what was read back from the provider. */
  placed(name: string): Map<string, string> {
    const rows = this.sql.exec<{ key: string; sha256: string }>(
      "select key, sha256 from placed where provider = ?",
      name,
    );
    return new Map(rows.map(({ key, sha256 }) => [key, sha256]));
  }

  notePlaced(name: string, key: string, sha256: string): void {
    this.sql.exec("delete from taken_back where provider = ? and key = ?", name, key);
    this.sql.exec(
      "insert into placed values (?, ?, ?) on conflict (provider, key) do update set sha256 = excluded.sha256",
      name,
      key,
      sha256,
    );
  }

  /** A fetcher's key or a workload is about to be put: that it may be there from now on is known before it is. */
  noteToPut(name: string, key: string, sha256: string, now: number): void {
    this.sql.transaction(() => {
      this.notePlaced(name, key, "");
      this.sql.exec(
        `insert into mirrored_content values (?, ?, ?, ?)
         on conflict (provider, key, sha256) do update set noted_ms = excluded.noted_ms`,
        name,
        key,
        sha256,
        now,
      );
    });
  }

  /**
   * Whether what the store has under a key may be of this tenant. A SPIFFE ID that was taken back may be another tenant's since, and so
   * may its file. True where nothing is known of what was put.
   */
  isOwn(name: string, key: string, sha256: string): boolean {
    const known = this.sql
      .exec<{ sha256: string }>("select sha256 from mirrored_content where provider = ? and key = ?", name, key)
      .map((row) => row.sha256);
    return known.length === 0 || known.includes(sha256);
  }

  noteRemoved(name: string, key: string): void {
    this.sql.exec("delete from placed where provider = ? and key = ?", name, key);
  }

  /** Of bundles of that statement: of a domain that is stated anew there was none. */
  trustOrder(name: string, key: string, statedMs: number): BundleOrder {
    if (this.#isStatedAnew(name, key, statedMs)) return { newest: null, distrusts: 0 };
    const [newest] = this.sql.exec<{ sequence: number; digest: string; distrusts: number }>(
      `select p.sequence, p.sha256 as digest, coalesce(d.newest, 0) as distrusts
       from trust_placed p left join trust_distrusts d on d.provider = p.provider and d.key = p.key
       where p.provider = ? and p.key = ?`,
      name,
      key,
    );
    const [most] = this.sql.exec<{ most: number }>(
      "select most from trust_distrusts where provider = ? and key = ?",
      name,
      key,
    );
    return { newest: newest ?? null, distrusts: most?.most ?? 0 };
  }

  /** A bundle is about to be put: what may be there from now on is known before it is. `sequence` null: it has none. */
  noteTrust(name: string, key: string, { sequence, distrusts, digest }: BundleVersion, statedMs: number): void {
    this.sql.transaction(() => {
      this.notePlaced(name, key, "");
      if (this.#isStatedAnew(name, key, statedMs)) this.#forgetTrust(name, key);
      this.sql.exec(
        "insert into trust_stated values (?, ?, ?) on conflict (provider, key) do update set stated_ms = excluded.stated_ms",
        name,
        key,
        statedMs,
      );
      this.sql.exec(
        `insert into trust_distrusts values (?, ?, ?, ?) on conflict (provider, key)
         do update set newest = case when ? then excluded.newest else trust_distrusts.newest end, most = excluded.most`,
        name,
        key,
        sequence === null ? 0 : distrusts,
        distrusts,
        sequence === null ? 0 : 1,
      );
      if (sequence === null) return;
      this.sql.exec(
        `insert into trust_placed values (?, ?, ?, ?) on conflict (provider, key)
         do update set sequence = excluded.sequence, sha256 = excluded.sha256`,
        name,
        key,
        sequence,
        digest,
      );
    });
  }

  /** Of which statement a bundle is that was placed before this was noted. */
  noteStated(name: string, key: string, statedMs: number): void {
    this.sql.exec("insert into trust_stated values (?, ?, ?) on conflict do nothing", name, key, statedMs);
  }

  #isStatedAnew(name: string, key: string, statedMs: number): boolean {
    const [known] = this.sql.exec<{ stated_ms: number }>(
      "select stated_ms from trust_stated where provider = ? and key = ?",
      name,
      key,
    );
    return known !== undefined && known.stated_ms !== statedMs;
  }

  /** What is put under the key from now on is held against nothing of before. */
  #forgetTrust(name: string, key: string): void {
    for (const table of ["trust_placed", "trust_distrusts", "trust_stated"])
      this.sql.exec(`delete from ${table} where provider = ? and key = ?`, name, key);
  }

  /** A fetcher's key, a workload or a bundle that is gone from the store, now: from here on it is looked for, should an older write come late. */
  noteTakenBack(name: string, key: string, now: number): void {
    this.sql.transaction(() => {
      this.noteRemoved(name, key);
      this.#forgetTrust(name, key);
      this.sql.exec(
        `insert into taken_back values (?, ?, ?, ?) on conflict (provider, key)
         do update set taken_ms = excluded.taken_ms, looked_ms = excluded.looked_ms`,
        name,
        key,
        now,
        now,
      );
    });
  }

  /** Keys that were taken back since then and not looked for since `lookedMs`, the longest not looked for first. Forgets older ones. */
  takenBack(name: string, takenMs: number, lookedMs: number, limit: number): string[] {
    this.sql.exec("delete from taken_back where provider = ? and taken_ms <= ?", name, takenMs);
    this.sql.exec(
      `delete from mirrored_content where provider = ? and noted_ms <= ? and not exists (
         select 1 from placed p
         where p.provider = mirrored_content.provider and p.key = mirrored_content.key and p.sha256 = mirrored_content.sha256
       ) and not exists (
         select 1 from taken_back t where t.provider = mirrored_content.provider and t.key = mirrored_content.key
       )`,
      name,
      takenMs,
    );
    return this.sql
      .exec<{ key: string }>(
        "select key from taken_back where provider = ? and looked_ms <= ? order by looked_ms, key limit ?",
        name,
        lookedMs,
        limit,
      )
      .map(({ key }) => key);
  }

  noteLookedFor(name: string, key: string, now: number): void {
    this.sql.exec("update taken_back set looked_ms = ? where provider = ? and key = ?", now, name, key);
  }

  /**
   * The timestamp of that version was read back: the provider has all of it. `named`: every key that it leads to; since when others of
   * its keys are led to no more is counted from here.
   */
  noteFlipped(
    name: string,
    versions: { root: number; targets: number; timestamp: number },
    named: readonly string[],
    now: number,
  ): void {
    this.sql.transaction(() => {
      this.sql.exec(
        `update provider set root_version = ?, targets_version = ?, timestamp_version = ?, behind_since_ms = null,
           attempts = 0, retry_ms = null, reason = null where name = ?`,
        versions.root,
        versions.targets,
        versions.timestamp,
        name,
      );
      this.sql.exec(
        `insert into unnamed select provider, key, ? from placed
         where provider = ? and key not like 'fetchers/%' and key not like 'workloads/%' and key not like 'trust/%'
           and key not like 'stated/%'
         on conflict do nothing`,
        now,
        name,
      );
      for (const key of named) this.sql.exec("delete from unnamed where provider = ? and key = ?", name, key);
    });
  }

  /** Keys that nothing has named since then or longer, the longest first. */
  unnamed(name: string, sinceMs: number, limit: number): string[] {
    return this.sql
      .exec<{ key: string }>(
        "select key from unnamed where provider = ? and since_ms <= ? order by since_ms, key limit ?",
        name,
        sinceMs,
        limit,
      )
      .map(({ key }) => key);
  }

  noteCollected(name: string, key: string): void {
    this.sql.transaction(() => {
      this.noteRemoved(name, key);
      this.sql.exec("delete from unnamed where provider = ? and key = ?", name, key);
    });
  }

  /** `reason`: a machine word. */
  noteFailed(name: string, reason: string, now: number): void {
    const { attempts } = this.provider(name);
    this.sql.exec(
      `update provider set behind_since_ms = coalesce(behind_since_ms, ?), attempts = ?, retry_ms = ?, reason = ?
       where name = ?`,
      now,
      attempts + 1,
      now + Math.min(retryMaxMs, retryFirstMs * 2 ** Math.min(attempts, 10)),
      reason,
      name,
    );
  }

  /**
   * The provider has not what it had: everything is put and read back anew. What it may have stays known, or a key that was
   * revoked meanwhile would never be taken back, and what nothing names never collected.
   */
  forgetPlaced(name: string): void {
    this.sql.transaction(() => {
      this.sql.exec("update placed set sha256 = '' where provider = ?", name);
      this.sql.exec(
        "update provider set timestamp_version = 0, targets_version = 0, root_version = 0 where name = ?",
        name,
      );
      this.nudgeFetchers();
    });
  }

  /** Who may read has changed (a key, a workload, a bundle), or may have: every store is told at once, whatever it waits for. */
  nudgeFetchers(): void {
    this.sql.exec("update repository set fetchers_nudged = fetchers_nudged + 1");
    this.sql.exec("update mirror set retry_ms = null");
  }

  /** The nudge that this provider's store has not heard yet, or null. */
  fetchersWaiting(name: string): number | null {
    const [row] = this.sql.exec<{ nudged: number; mirrored: number }>(
      "select fetchers_nudged as nudged, mirrored from repository, mirror where provider = ?",
      name,
    );
    return row === undefined || row.mirrored >= row.nudged ? null : row.nudged;
  }

  /** Before when a store that failed is not told again; null: it did not fail. */
  fetchersRetryMs(name: string): number | null {
    return (
      this.sql.exec<{ ms: number | null }>("select retry_ms as ms from mirror where provider = ?", name)[0]?.ms ?? null
    );
  }

  noteMirrored(name: string, nudge: number): void {
    this.sql.exec("update mirror set mirrored = ?, retry_ms = null where provider = ?", nudge, name);
  }

  noteFetchersRetry(name: string, retryMs: number): void {
    this.sql.exec("update mirror set retry_ms = ? where provider = ?", retryMs, name);
  }

  /** Each role's document, where there is a repository. */
  documents(): Readonly<Record<OnlineRole, SignedRow>> | null {
    const [targets, snapshot, timestamp] = [this.signed("targets"), this.signed("snapshot"), this.signed("timestamp")];
    return targets === null || snapshot === null || timestamp === null ? null : { targets, snapshot, timestamp };
  }
}
