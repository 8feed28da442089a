// A tenant's publisher over node:sqlite, with two stores in memory, a vault and a signer, each of whose calls can be where
// everything dies: for the tests of the publisher's recovery. A stock tuf-js reads what a store has.

import { onTestFinished } from "vitest";
import { concat, sha256Hex, utf8, utf8Text, type Bytes } from "../../shared/contract/bytes.ts";
import type { Channel } from "../../shared/contract/names.ts";
import type { KeptBundle } from "../../shared/edge/change.ts";
import { Publisher } from "../../shared/edge/publisher.ts";
import type { TenantFetchers, TrustDocument } from "../../shared/edge/publisher-mirror.ts";
import type { Changed, Intent, Removed, RootPut } from "../../shared/edge/service.ts";
import { deltaKey, metadataKey, policyKey, statementKey, timestampName } from "../../shared/edge/serving-path.ts";
import type { Content, ProviderStore } from "../../shared/edge/stores.ts";
import type { OnlineRole, PolicyTarget, RootDocument } from "../../shared/edge/tuf.ts";
import type { TufSigner } from "../../shared/edge/tuf-keys.ts";
import { durablePlace, openSql, type OpenSql } from "../support/sqlite.ts";
import { onlineKeys, onlineSigners, rootDocumentOf, rootSigners, tufClient } from "../support/tuf.ts";
import { randomBytes, seeded, tenantId } from "./audit-events.ts";

export const slug = "acme";
export const principal = `pri_${"a".repeat(26)}`;

/** Everything dies at a call: it and all after it never answer, as for an object that is gone. */
export class Death {
  calls = 0;
  at: number | null = null;
  when: "before" | "after" = "before";
  isDead = false;
  #told = (): void => undefined;
  readonly happened = new Promise<void>((resolve) => {
    this.#told = resolve;
  });

  async around<T>(work: () => T | Promise<T>): Promise<T> {
    if (this.isDead) return await never();
    const call = this.calls;
    this.calls += 1;
    if (call === this.at && this.when === "before") return await this.#die();
    const result = await work();
    if (call === this.at) return await this.#die();
    return this.isDead ? await never() : result;
  }

  async #die<T>(): Promise<T> {
    this.isDead = true;
    this.#told();
    return await never();
  }
}

const never = <T>(): Promise<T> => new Promise<T>(() => undefined);

export class MemoryStore {
  readonly name: string;
  readonly objects = new Map<string, Bytes>();
  /** Keys in the order in which they were written. */
  readonly written: string[] = [];
  /** What a call meets before its effect; throwing is a provider that is down. */
  meet: (call: "put" | "digest" | "remove", key: string) => void | Promise<void> = () => undefined;
  /** What becomes of the bytes on their way. */
  bend: (key: string, bytes: Bytes) => Bytes = (_, bytes) => bytes;
  /** A write that its caller gave up on, and that arrives when this resolves; null: it arrives now. */
  delay: (key: string) => Promise<void> | null = () => null;

  constructor(name: string) {
    this.name = name;
  }

  port(death: Death): ProviderStore {
    return {
      name: this.name,
      put: (key, content) =>
        death.around(async () => {
          await this.meet("put", key);
          const bytes = await bytesOf(content);
          const later = this.delay(key);
          if (later !== null) {
            void later.then(() => this.objects.set(key, bytes));
            throw new Error("late");
          }
          if (content.immutable && this.objects.has(key) && utf8Text(this.objects.get(key)!) !== utf8Text(bytes))
            throw new Error(`an immutable key is written with other bytes: ${key}`);
          this.objects.set(key, this.bend(key, bytes));
          this.written.push(key);
        }),
      digest: (key) =>
        death.around(async () => {
          await this.meet("digest", key);
          const bytes = this.objects.get(key);
          return bytes === undefined ? null : await sha256Hex(bytes);
        }),
      remove: (key) =>
        death.around(async () => {
          await this.meet("remove", key);
          this.objects.delete(key);
        }),
    };
  }

  text(name: string): string | null {
    const bytes = this.objects.get(metadataKey(slug, name));
    return bytes === undefined ? null : utf8Text(bytes);
  }

  has(key: string): boolean {
    return this.objects.has(key);
  }
}

async function bytesOf(content: Content): Promise<Bytes> {
  const pieces: Uint8Array[] = [];
  for await (const piece of (await content.open()).body) pieces.push(piece);
  return concat(...pieces);
}

/** What an Idempotency-Key and the body with it stand for, as the API tells it. */
export const intentOf = (key: string | null, body: string): Intent | null =>
  key === null ? null : { claim_sha256: key, body_sha256: body };

export class PublisherWorld {
  /** The real time at first: a stock client has no other clock. */
  now = Date.now();
  readonly a = new MemoryStore("a");
  readonly b = new MemoryStore("b");
  readonly vault = new Map<string, Bytes>();
  readonly logged: string[] = [];
  fetchers: TenantFetchers["keys"] = [];
  workloads: TenantFetchers["workloads"] = [];
  /** Bundles in force by their trust domain. */
  trust = new Map<string, TrustDocument>();
  signers: Record<OnlineRole, TufSigner>;
  death = new Death();
  publisher!: Publisher;
  /** Never, unless a test says otherwise: the stores here answer at once. */
  pause: (ms: number) => Promise<void> = never;
  isSignerDown = false;
  isSignerHung = false;
  hungCalls = 0;
  isVaultDeaf = false;
  #sql!: OpenSql;
  /** Of everything that was kept; the upload leaves a delta from each of them. */
  readonly #tars = new Set<string>();
  readonly #path: string;
  readonly #next = seeded(7);

  private constructor(signers: Record<OnlineRole, TufSigner>) {
    this.signers = signers;
    const place = durablePlace();
    this.#path = place.path;
    this.open();
    onTestFinished(() => {
      this.#sql.close();
      place.forget();
    });
  }

  static async make(): Promise<PublisherWorld> {
    return new PublisherWorld(await onlineSigners(tenantId));
  }

  /** The object as it is after an eviction: what was durable, and nothing else. */
  async reopen(): Promise<void> {
    // What was answered before the death goes on to its next call, which never answers.
    for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    this.#sql.close();
    this.death = new Death();
    this.open();
  }

  /** The object as a release has left it that did not have these tables yet. */
  async reopenWithout(...tables: readonly string[]): Promise<void> {
    await this.reopen();
    for (const table of tables) this.#sql.exec(`drop table ${table}`);
    await this.reopen();
  }

  private open(): void {
    this.#sql = openSql(this.#path);
    const { death } = this;
    const keys = () => onlineKeys(this.signers);
    this.publisher = new Publisher({
      sql: this.#sql,
      tenantId,
      clock: () => this.now,
      random: (byteCount) => randomBytes(this.#next, byteCount),
      log: (_, message) => void this.logged.push(message),
      providers: [this.a.port(death), this.b.port(death)],
      vault: {
        open: (path) =>
          death.around(() => {
            const bytes = this.vault.get(path);
            if (bytes === undefined) throw new Error(`not in the vault: ${path}`);
            return { bytes: bytes.length, body: once(bytes) };
          }),
        find: (path) =>
          death.around(async () => {
            if (this.isVaultDeaf) throw new Error("down");
            const bytes = this.vault.get(path);
            return bytes === undefined ? null : { bytes: bytes.length, sha256: await sha256Hex(bytes) };
          }),
      },
      signTuf: (signed) =>
        death.around(async () => {
          if (this.isSignerDown) throw new Error("down");
          if (this.isSignerHung) {
            this.hungCalls += 1;
            return await never();
          }
          return { ok: true as const, signature: await this.signers[signed._type].sign(signed) };
        }),
      tufKeys: () => death.around(keys),
      fetchers: () =>
        death.around(async () => ({
          keys: this.fetchers,
          workloads: this.workloads,
          bundles: await Promise.all(
            [...this.trust].map(async ([trust_domain, { document, stated_ms }]) => ({
              trust_domain,
              sha256: await sha256Hex(utf8(document)),
              stated_ms,
            })),
          ),
        })),
      trustDocument: (trustDomain) => death.around(() => this.trust.get(trustDomain) ?? null),
      pause: (ms) => this.pause(ms),
    });
  }

  /** The audit events that wait in the outbox: type and attributes. */
  events(): { type: string; source_seq: number; attributes: Record<string, unknown> }[] {
    const rows = this.#sql.exec<{ body: string }>("select body from outbox order by id");
    return rows.map(({ body }) => JSON.parse(body) as ReturnType<PublisherWorld["events"]>[number]);
  }

  /** Keeps a bundle, its statement and deltas to it, as the uploads do. */
  async keep(text: string): Promise<KeptBundle> {
    const [bundle, statement] = [utf8(`bundle ${text}`), utf8(`statement ${text}`)];
    const [sha256, statementSha256] = [await sha256Hex(bundle), await sha256Hex(statement)];
    this.vault.set(policyKey(slug, sha256), bundle);
    this.vault.set(statementKey(slug, statementSha256), statement);
    const tarSha256 = await sha256Hex(utf8(`tar ${text}`));
    for (const from of this.#tars) if (from !== tarSha256) this.vault.set(deltaKey(slug, from, tarSha256), utf8("zst"));
    this.#tars.add(tarSha256);
    return {
      version: text,
      bundle_sha256: sha256,
      bundle_bytes: bundle.length,
      tar_sha256: tarSha256,
      tar_bytes: 10_240,
      statement_sha256: statementSha256,
    };
  }

  async root(version = 1, keys: readonly string[] = ["one"], by = keys): Promise<RootDocument> {
    const [own, signing] = [await rootSigners(...keys), await rootSigners(...by)];
    return await rootDocumentOf(onlineKeys(this.signers), { version, keys: own, by: signing, now: this.now });
  }

  putRoot(root: RootDocument, key: string | null = null): Promise<RootPut> {
    return this.publisher.putRoot({ principal, intent: intentOf(key, JSON.stringify(root)) }, slug, root);
  }

  async publish(
    text: string,
    policy = "gateway",
    channel: Channel = "stable",
    key: string | null = null,
  ): Promise<Changed> {
    const bundle = await this.keep(text);
    return await this.publisher.change(
      { principal, intent: intentOf(key, text) },
      { kind: "publish", policy, channel, bundle },
    );
  }

  remove(policy: string, key: string | null = null): Promise<Removed> {
    return this.publisher.remove({ principal, intent: intentOf(key, "") }, policy);
  }

  /** Lets the alarms come until nothing is due within the next minute, 100 at most. */
  async settle(): Promise<void> {
    for (let alarms = 0; alarms < 100; alarms += 1) {
      await this.publisher.catchUp();
      const due = this.publisher.nextDue();
      if (due === null || due > this.now + 60_000) return;
      this.now = Math.max(this.now, due);
    }
    throw new Error("it does not settle");
  }

  /** What a stock client makes of a store: the revision that it serves, or null where it has none yet. Throws where it is wrong. */
  async served(
    store: MemoryStore,
    path = "gateway/stable/bundle.tar.gz",
  ): Promise<{ version: string; revision: number } | null> {
    if (store.text(timestampName) === null) return null;
    const first = store.text("1.root.json");
    if (first === null) throw new Error(`${store.name} has a timestamp and no root`);
    const target = await tufClient(first, (name) => store.text(name)).target(path);
    if (target === null) return null;
    const { sha256 } = target.hashes;
    const custom = target.custom as PolicyTarget["custom"];
    const deltas = (custom.deltas ?? []).map(({ from }) => deltaKey(slug, from, custom.tar_sha256));
    for (const key of [policyKey(slug, sha256!), statementKey(slug, custom.statement_sha256), ...deltas])
      if (!store.has(key)) throw new Error(`${store.name} names ${key}, and has it not`);
    return { version: custom.version, revision: custom.revision };
  }
}

async function* once(bytes: Bytes): AsyncGenerator<Uint8Array> {
  yield bytes;
}
