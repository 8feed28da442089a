// Mirrors who may read into the providers' stores: a file for each fetcher's key, under its digest, and none for one that was
// revoked. Called by publisher.ts.
//
// What stands where after a crash at each await:
//   keys read from Postgres               nothing was changed; the nudge still waits, and they are read again
//   a revoked one removed                 it is there or not; `placed` has it still: it is removed and looked for again
//   …found gone                           `placed` has it no more, or still: then it is removed and looked for again
//   a key noted, then put                 it is there or not; `placed` knows that it may be: put again, or taken back
//   …read back                            `placed` has its digest, or not: then it is put and read again

import { canonicalJson } from "../contract/events.ts";
import type { Clock, Log } from "../contract/ports.ts";
import { errorName } from "../outbox/drain.ts";
import { jsonContent, putAndRead, StoreDiffers } from "./publisher-puts.ts";
import type { PublisherState } from "./publisher-state.ts";
import { fetcherKey } from "./serving-path.ts";
import type { Content, ProviderStore } from "./stores.ts";

/** After a store that did not take them, or fetchers that could not be read. */
const retryMs = 60_000;

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
  #mirroring: Promise<void> | null = null;

  constructor(parts: MirrorParts, state: PublisherState) {
    this.#parts = parts;
    this.#state = state;
  }

  mirror(): Promise<void> {
    this.#mirroring ??= this.#mirrorAll().finally(() => {
      this.#mirroring = null;
    });
    return this.#mirroring;
  }

  /** When a store is told next; Infinity where all know. */
  nextDue(now: number): number {
    if (this.#state.fetchersWaiting() === null) return Infinity;
    return Math.min(...this.#parts.providers.map(({ name }) => this.#state.provider(name).fetchers_retry_ms ?? now));
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
