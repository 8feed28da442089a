// A fetcher's key, looked up by its digest in the provider's own store. Called by fetchers.ts; the edge has no database, and hears
// of a revoked key by its file being gone.

import { membersOf } from "../../shared/edge/mirrored-file.ts";
import { fetcherKey, isTenantSlug } from "../../shared/edge/serving-path.ts";
import { apiKeyDigest } from "../../shared/tenancy/api-key.ts";
import type { CacheRule, EdgeCache, Entry, Source } from "./cache.ts";
import { GoodLately } from "./good-lately.ts";

/** So long a revoked key may still be taken, and a new key be refused that was tried before it was made. */
export const fetcherMsMax = 5_000;
export const unknownKeyMsMax = 1_000;

export interface Fetcher {
  readonly fetcher_id: string;
  /** The tenant's slug. */
  readonly tenant: string;
}

interface KeyOfFetcher extends Fetcher {
  /** Ms since 1970; Infinity where it does not expire. */
  readonly expiresAt: number;
}

/** `source`: how its file came. */
export type WhoseKey = { readonly source: Source } & (
  | { readonly state: "known"; readonly fetcher: Fetcher }
  /** One that nobody has, or that has expired. */
  | { readonly state: "unknown" }
  | { readonly state: "unavailable" }
);

const goodRule: CacheRule = { digest: null, freshMs: fetcherMsMax, missingMs: unknownKeyMsMax };
const doubtfulRule: CacheRule = { ...goodRule, isDoubtful: true };

export class FetcherKeys {
  readonly #cache: EdgeCache;
  readonly #parsed = new WeakMap<Entry, { readonly fetcher: KeyOfFetcher | null }>();
  readonly #onBroken: () => void;
  /** By the keys' digests. */
  readonly #good = new GoodLately();

  /** `onBroken`: told of each file that is no fetcher's; its key opens nothing. */
  constructor(cache: EdgeCache, onBroken: () => void) {
    this.#cache = cache;
    this.#onBroken = onBroken;
  }

  /** `key`: `mk_…`. */
  async find(key: string, now: number): Promise<WhoseKey> {
    const digest = await apiKeyDigest(key);
    const isGood = this.#good.has(digest, now);
    const read = await this.#cache.read(fetcherKey(digest), isGood ? goodRule : doubtfulRule);
    const { source } = read;
    if (read.state !== "missing" && read.state !== "found") return { state: "unavailable", source };
    const fetcher = read.state === "found" ? this.#fetcherIn(read.entry) : null;
    if (fetcher === null || fetcher.expiresAt <= now) {
      this.#good.forget(digest);
      return { state: "unknown", source };
    }
    if (!isGood || source !== "hit") this.#good.note(digest, now);
    return { state: "known", fetcher, source };
  }

  #fetcherIn(entry: Entry): KeyOfFetcher | null {
    const known = this.#parsed.get(entry);
    if (known !== undefined) return known.fetcher;
    const fetcher = parseFetcher(entry.bytes);
    if (fetcher === null) this.#onBroken();
    this.#parsed.set(entry, { fetcher });
    return fetcher;
  }
}

/** `{"fetcher_id", "tenant", "expires_at": RFC 3339 or null}`; null for anything else. */
function parseFetcher(bytes: Uint8Array): KeyOfFetcher | null {
  const members = membersOf(bytes);
  if (members === null) return null;
  const { fetcher_id, tenant, expires_at } = members;
  if (typeof fetcher_id !== "string" || fetcher_id === "" || fetcher_id.length > 100) return null;
  if (typeof tenant !== "string" || !isTenantSlug(tenant)) return null;
  if (expires_at === null) return { fetcher_id, tenant, expiresAt: Infinity };
  const expiresAt = typeof expires_at === "string" ? Date.parse(expires_at) : Number.NaN;
  return Number.isNaN(expiresAt) ? null : { fetcher_id, tenant, expiresAt };
}
