// Mirrors who may read into the providers' stores: a file for each fetcher's key, under its digest, and none for one that was
// revoked. Called by publisher.ts. Each provider has a mirror and a retry of its own, so that a revocation waits for no other.
//
// What stands where after a crash at each await:
//   keys read from Postgres               nothing was changed; the nudge still waits, and they are read again
//   a revoked one removed                 it is there or not; `placed` has it still: it is removed and looked for again
//   …found gone                           `placed` has it no more, or still: then it is removed and looked for again
//   a key noted, then put                 it is there or not; `placed` knows that it may be: put again, or taken back
//   …read back                            `placed` has its digest, or not: then it is put and read again
//   a look at what was taken back         nothing was changed; it is looked for again
//   …found there, and removed             it is there or not; `taken_back` has it still: it is looked for again
// A write that we gave up on may arrive long after its key was found gone: what was taken back is looked for each minute, for
// a day, and removed again. Only the mirror of its provider puts and removes a key, so that a look meets no put of our own.

import { canonicalJson } from "../contract/events.ts";
import type { Clock, Log } from "../contract/ports.ts";
import { errorName } from "../outbox/drain.ts";
import { jsonContent, putAndRead, removeAndRead } from "./publisher-puts.ts";
import type { PublisherState } from "./publisher-state.ts";
import { fetcherKey } from "./serving-path.ts";
import type { Content, ProviderStore } from "./stores.ts";

/** After a store that did not take them, or fetchers that could not be read. */
const retryMs = 60_000;
/** For how long it is looked for what was taken back: no store brings a write later. */
const takenBackMs = 24 * 3_600_000;
/** How often, and how many at one time, those that were not looked for the longest first. */
const lookAgainMs = 50_000;
const looksMax = 64;

/** A fetcher's key that may read. */
export interface FetcherKey {
  /** Lower-case hex SHA-256 of the key. */
  readonly key_sha256: string;
  readonly fetcher_id: string;
  /** RFC 3339, or null: until it is revoked. */
  readonly expires_at: string | null;
}

export interface MirrorParts {
  readonly clock: Clock;
  readonly log: Log;
  readonly providers: readonly ProviderStore[];
  /** Every key of a fetcher of this tenant that is neither revoked nor expired. */
  readonly fetcherKeys: (now: number) => Promise<readonly FetcherKey[]>;
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
        this.#parts.log("warn", "fetchers' keys were not mirrored, will try again", {
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
    const wanted = new Map<string, Content>();
    for (const { key_sha256, fetcher_id, expires_at } of await this.#parts.fetcherKeys(now))
      wanted.set(fetcherKey(key_sha256), await jsonContent(canonicalJson({ fetcher_id, tenant, expires_at }), false));
    const placed = this.#state.placed(store.name);
    // Who may read no more goes first.
    for (const key of placed.keys()) {
      if (!key.startsWith("fetchers/") || wanted.has(key)) continue;
      await removeAndRead(store, key);
      this.#state.noteTakenBack(store.name, key, now);
    }
    for (const [key, content] of wanted) {
      if (placed.get(key) === content.sha256) continue;
      // Noted before it is put: what may be there is known, so that it can be taken back.
      this.#state.notePlaced(store.name, key, "");
      await putAndRead(store, key, content);
      this.#state.notePlaced(store.name, key, content.sha256);
    }
    for (const key of this.#state.takenBack(store.name, now - takenBackMs, now - lookAgainMs, looksMax)) {
      if ((await store.digest(key)) !== null) {
        this.#parts.log("error", "a fetcher's key that was taken back is in the store again: it is removed", {
          provider: store.name,
        });
        await removeAndRead(store, key);
        this.#state.noteTakenBack(store.name, key, now);
      }
      this.#state.noteLookedFor(store.name, key, now);
    }
  }
}
