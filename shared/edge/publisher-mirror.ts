// Mirrors who may read into the providers' stores: a file for each fetcher's key and for each SPIFFE ID of a fetcher, under their
// digests, and the bundles that their SVIDs are verified with, each with its statement; and none for what is gone. Called by publisher.ts. Each provider
// has a mirror and a retry of its own, so that a revocation waits for no other.
//
// What stands where after a crash at each await:
//   fetchers read from Postgres           nothing was changed; the nudge still waits, and they are read again
//   what is gone looked at                nothing was changed; it is looked at again
//   …removed, unless it is another's      it is there or not; `placed` has it still: it is removed and looked for again
//   …found gone                           `placed` has it no more, or still: then it is removed and looked for again
//   a bundle read from Postgres           nothing was changed; it is read again
//   a bundle noted, then put              the old one is there, or this; `placed` has no digest of it: put again. Its sequence
//                                         and its distrusts are noted: none from before it is put any more, whatever Postgres says
//   …read back                            `placed` has its digest, or not: then it is put and read again
//   a key, workload or statement noted,   it is there or not; `placed` knows that it may be: put again, or taken back
//   …then put
//   …read back                            `placed` has its digest, or not: then it is put and read again
//   a look at a bundle                    nothing was changed; it is looked at again
//   …found another, and put again         the other is there, or this; `placed` has no digest of it: put again
//   a look at a statement                 nothing was changed, or what stands in Postgres is put again; it is looked at again
//   a look at what was taken back         nothing was changed; it is looked for again
//   …found there, and removed             it is there or not; `taken_back` has it still: it is looked for again
// A write that we gave up on may arrive long after its key was found gone: what was taken back is looked for each minute, for
// a day, and removed again. One of an older bundle or statement may arrive over a newer one: those are looked at each time. Only the mirror
// of its provider puts and removes a key, so that a look meets no put of our own.

import { whyBackwards } from "../contract/bundle-order.ts";
import { sha256Hex, utf8 } from "../contract/bytes.ts";
import { canonicalJson } from "../contract/events.ts";
import type { Clock, Log } from "../contract/ports.ts";
import { errorName } from "../outbox/drain.ts";
import { jsonContent, putAndRead, removeAndRead } from "./publisher-puts.ts";
import type { PublisherState } from "./publisher-state.ts";
import { fetcherKey, isMirrored, statedKey, trustKey, workloadKey } from "./serving-path.ts";
import { statedText } from "./stated.ts";
import type { Content, ProviderStore } from "./stores.ts";

/** After a store that did not take them, or fetchers that could not be read. */
const retryMs = 60_000;
/** For how long it is looked for what was taken back: no store brings a write later. */
const takenBackMs = 24 * 3_600_000;
/** How often, and how many at one time, those that were not looked for the longest first. */
const lookAgainMs = 50_000;
const looksMax = 64;

/** A fetcher's key that may read. */
interface FetcherKey {
  /** Lower-case hex SHA-256 of the key. */
  readonly key_sha256: string;
  readonly fetcher_id: string;
  /** RFC 3339, or null: until it is revoked. */
  readonly expires_at: string | null;
}

/** A fetcher that comes with SVIDs. */
interface FetcherWorkload {
  readonly spiffe_id: string;
  readonly trust_domain: string;
  readonly fetcher_id: string;
}

/** Who may read of one tenant, at one moment. */
export interface TenantFetchers {
  /** Neither revoked nor expired; none where SVIDs alone open (the flag spiffe_everywhere). */
  readonly keys: readonly FetcherKey[];
  readonly workloads: readonly FetcherWorkload[];
  /** The trust domains of `workloads` that have a bundle, with its digest: lower-case hex SHA-256. */
  readonly bundles: readonly { readonly trust_domain: string; readonly sha256: string; readonly stated_ms: number }[];
}

export interface TrustDocument {
  /** To the byte. */
  readonly document: string;
  /** Of the document; null where it has none. */
  readonly sequence: number | null;
  /** How many of the domain's authorities it was held against that are distrusted. */
  readonly distrusts: number;
  /** Of the statement of the trust domain that it is of, milliseconds since 1970 UTC. */
  readonly stated_ms: number;
}

export interface MirrorParts {
  readonly clock: Clock;
  readonly log: Log;
  readonly providers: readonly ProviderStore[];
  readonly fetchers: (now: number) => Promise<TenantFetchers>;
  /** Null where the trust domain is gone, or has no bundle. */
  readonly trustDocument: (trustDomain: string) => Promise<TrustDocument | null>;
}

export class FetcherMirror {
  readonly #parts: MirrorParts;
  readonly #state: PublisherState;
  readonly #running = new Map<string, Promise<void>>();

  constructor(parts: MirrorParts, state: PublisherState) {
    this.#parts = parts;
    this.#state = state;
  }

  /** Tells every store that has not heard the last nudge, and whose time has come. What failed has its next time. */
  async mirror(): Promise<void> {
    await Promise.all(this.#parts.providers.map((store) => this.#run(store)));
  }

  /** When a store is told next; Infinity where all know. */
  nextDue(now: number): number {
    const waiting = this.#parts.providers.filter(({ name }) => this.#state.fetchersWaiting(name) !== null);
    return Math.min(...waiting.map(({ name }) => this.#state.fetchersRetryMs(name) ?? now));
  }

  /** One a provider: one that runs already takes up what was nudged meanwhile. */
  #run(store: ProviderStore): Promise<void> {
    const { name } = store;
    const running = this.#running.get(name) ?? this.#mirrorTo(store).finally(() => this.#running.delete(name));
    this.#running.set(name, running);
    return running;
  }

  /** Who may read, in the store as it is in Postgres. */
  async #mirrorTo(store: ProviderStore): Promise<void> {
    const { name } = store;
    for (;;) {
      const nudge = this.#state.fetchersWaiting(name);
      const now = this.#parts.clock();
      if (nudge === null || (this.#state.fetchersRetryMs(name) ?? 0) > now) return;
      try {
        await this.#tell(store, now);
        this.#state.noteMirrored(name, nudge);
      } catch (error) {
        this.#parts.log("warn", "fetchers were not mirrored, will try again", {
          provider: name,
          error: errorName(error),
        });
        // Unless there is news: a revocation is tried at once, whatever failed before it.
        if (this.#state.fetchersWaiting(name) === nudge) this.#state.noteFetchersRetry(name, now + retryMs);
      }
    }
  }

  async #tell(store: ProviderStore, now: number): Promise<void> {
    const { tenant } = this.#state;
    if (tenant === null) return;
    const { keys, workloads, bundles } = await this.#parts.fetchers(now);
    const trust = new Map(bundles.map((bundle) => [trustKey(tenant, bundle.trust_domain), bundle] as const));
    const stated = new Map<string, Content>();
    for (const { trust_domain, sha256: bundle_sha256, stated_ms } of bundles)
      stated.set(statedKey(tenant, trust_domain), await jsonContent(statedText({ bundle_sha256, stated_ms }), false));
    // Behind the bundles, before all who are let in by them.
    const wanted = new Map(stated);
    for (const { key_sha256, fetcher_id, expires_at } of keys)
      wanted.set(fetcherKey(key_sha256), await jsonContent(canonicalJson({ fetcher_id, tenant, expires_at }), false));
    for (const workload of workloads) {
      const key = workloadKey(await sha256Hex(utf8(workload.spiffe_id)));
      wanted.set(key, await jsonContent(canonicalJson({ ...workload, tenant }), false));
    }
    const placed = this.#state.placed(store.name);
    // Who may read no more goes first.
    for (const key of placed.keys()) {
      if (!isMirrored(key) || wanted.has(key) || trust.has(key)) continue;
      await this.#takeOut(store, key);
      this.#state.noteTakenBack(store.name, key, now);
    }
    // A new bundle may be a revocation.
    for (const [key, { trust_domain, sha256, stated_ms }] of trust) {
      if (placed.get(key) !== sha256) await this.#putBundle(store, key, trust_domain);
      else this.#state.noteStated(store.name, key, stated_ms);
    }
    for (const [key, content] of wanted) {
      if (placed.get(key) === content.sha256) continue;
      // Noted before it is put: what may be there is known, so that it can be taken back.
      this.#state.noteToPut(store.name, key, content.sha256, now);
      await putAndRead(store, key, content);
      this.#state.notePlaced(store.name, key, content.sha256);
    }
    const after = this.#state.placed(store.name);
    for (const [key, { trust_domain }] of trust) {
      if (!after.has(key) || (await store.digest(key)) === after.get(key)) continue;
      this.#parts.log("error", "a trust bundle in the store is another one than was put: it is put again", {
        provider: store.name,
        trust_domain,
      });
      await this.#putBundle(store, key, trust_domain);
    }
    for (const [key, content] of stated)
      if ((await store.digest(key)) !== content.sha256) await putAndRead(store, key, content);
    for (const key of this.#state.takenBack(store.name, now - takenBackMs, now - lookAgainMs, looksMax)) {
      if (await this.#takeOut(store, key)) {
        this.#parts.log("error", "what was taken back was in the store again: it is removed", {
          provider: store.name,
        });
        this.#state.noteTakenBack(store.name, key, now);
      }
      this.#state.noteLookedFor(store.name, key, now);
    }
  }

  /** True: it was there. What another tenant has put there since stays, since it is looked for by nobody else. */
  async #takeOut(store: ProviderStore, key: string): Promise<boolean> {
    const there = await store.digest(key);
    if (there === null || !this.#state.isOwn(store.name, key, there)) return false;
    await removeAndRead(store, key);
    return true;
  }

  /** The bundle as it is in Postgres, unless the store has had one of the same statement that comes after it (SPIFFE Trust Domain and Bundle 4.1.1). */
  async #putBundle(store: ProviderStore, key: string, trustDomain: string): Promise<void> {
    const trust = await this.#parts.trustDocument(trustDomain);
    // Gone since the list was read: the nudge of who took it away is on its way.
    if (trust === null) return;
    const content = await jsonContent(trust.document, false);
    const { sequence, distrusts, stated_ms } = trust;
    const before = this.#state.trustOrder(store.name, key, stated_ms);
    const version = { sequence, distrusts, digest: content.sha256 };
    // As the edges themselves have it.
    if (whyBackwards(before, version) !== null) {
      this.#parts.log("error", "a trust bundle would go back: the store keeps the newer one", {
        provider: store.name,
        trust_domain: trustDomain,
        sequence,
        distrusts,
        newest: before.newest?.sequence ?? null,
        most: before.distrusts,
      });
      return;
    }
    this.#state.noteTrust(store.name, key, version, stated_ms);
    await putAndRead(store, key, content);
    this.#state.notePlaced(store.name, key, content.sha256);
  }
}
