// Who may read from this provider: a fetcher's key, looked up by its digest in the provider's own store. Called by app.ts for each
// request; the edge has no database, and hears of a revoked key by its file being gone.

import { utf8Text } from "../../shared/contract/bytes.ts";
import { fetcherKey, isTenantSlug } from "../../shared/edge/serving-path.ts";
import { apiKeyDigest, apiKeyPattern } from "../../shared/tenancy/api-key.ts";
import type { CacheRule, EdgeCache, Entry, Source } from "./cache.ts";

/** So long a revoked key may still be taken, and a new key be refused that was tried before it was made. */
export const fetcherMsMax = 5_000;
export const unknownKeyMsMax = 1_000;
/** So long, and so many: keys that were good. Made-up ones are read from the store beside them, and never in their place. */
const goodMsMax = 3_600_000;
const goodKeysMax = 8_192;

export interface Fetcher {
  readonly fetcher_id: string;
  /** The tenant's slug. */
  readonly tenant: string;
  /** Ms since 1970; Infinity where it does not expire. */
  readonly expiresAt: number;
}

/** `source`: how its file came; null where none was looked for. */
export type WhoIsIt = { readonly source: Source | null } & (
  | { readonly state: "known"; readonly fetcher: Fetcher }
  /** No key, one that nobody has, or one that has expired: all the same to whoever sent it. */
  | { readonly state: "unknown" }
  | { readonly state: "unavailable" }
);

const goodRule: CacheRule = { digest: null, freshMs: fetcherMsMax, missingMs: unknownKeyMsMax };
const doubtfulRule: CacheRule = { ...goodRule, isDoubtful: true };

/** The key of `Authorization: Bearer mk_…`, or null. */
export function bearerKey(authorization: string | null): string | null {
  if (authorization === null || authorization.length > 64) return null;
  const match = /^Bearer +(\S+)$/i.exec(authorization);
  return match !== null && apiKeyPattern.test(match[1]!) ? match[1]! : null;
}

export class Fetchers {
  readonly #cache: EdgeCache;
  readonly #parsed = new WeakMap<Entry, { readonly fetcher: Fetcher | null }>();
  readonly #onBroken: () => void;
  /** When a key was good last, ms since 1970 by its digest; the longest ago first. */
  readonly #good = new Map<string, number>();

  /** `onBroken`: told of each file that is no fetcher's; its key opens nothing. */
  constructor(cache: EdgeCache, onBroken: () => void) {
    this.#cache = cache;
    this.#onBroken = onBroken;
  }

  async find(authorization: string | null, now: number): Promise<WhoIsIt> {
    const key = bearerKey(authorization);
    if (key === null) return { state: "unknown", source: null };
    const digest = await apiKeyDigest(key);
    const isGood = now - (this.#good.get(digest) ?? -Infinity) < goodMsMax;
    const read = await this.#cache.read(fetcherKey(digest), isGood ? goodRule : doubtfulRule);
    const { source } = read;
    if (read.state !== "missing" && read.state !== "found") return { state: "unavailable", source };
    const fetcher = read.state === "found" ? this.#fetcherIn(read.entry) : null;
    if (fetcher === null || fetcher.expiresAt <= now) {
      this.#good.delete(digest);
      return { state: "unknown", source };
    }
    if (!isGood || source !== "hit") this.#noteGood(digest, now);
    return { state: "known", fetcher, source };
  }

  #noteGood(digest: string, now: number): void {
    this.#good.delete(digest);
    this.#good.set(digest, now);
    for (const oldest of this.#good.keys()) {
      if (this.#good.size <= goodKeysMax) break;
      this.#good.delete(oldest);
    }
  }

  #fetcherIn(entry: Entry): Fetcher | null {
    const known = this.#parsed.get(entry);
    if (known !== undefined) return known.fetcher;
    const fetcher = parseFetcher(entry.bytes);
    if (fetcher === null) this.#onBroken();
    this.#parsed.set(entry, { fetcher });
    return fetcher;
  }
}

/** `{"fetcher_id", "tenant", "expires_at": RFC 3339 or null}`; null for anything else. */
export function parseFetcher(bytes: Uint8Array): Fetcher | null {
  let value: unknown;
  try {
    value = JSON.parse(utf8Text(bytes));
  } catch {
    return null;
  }
  if (typeof value !== "object" || value === null) return null;
  const { fetcher_id, tenant, expires_at } = value as Record<string, unknown>;
  if (typeof fetcher_id !== "string" || fetcher_id === "" || fetcher_id.length > 100) return null;
  if (typeof tenant !== "string" || !isTenantSlug(tenant)) return null;
  if (expires_at === null) return { fetcher_id, tenant, expiresAt: Infinity };
  const expiresAt = typeof expires_at === "string" ? Date.parse(expires_at) : Number.NaN;
  return Number.isNaN(expiresAt) ? null : { fetcher_id, tenant, expiresAt };
}
