// Who may read from this provider: a fetcher's key, looked up by its digest in the provider's own store. Called by app.ts for each
// request; the edge has no database, and hears of a revoked key by its file being gone.

import { utf8Text } from "../../shared/contract/bytes.ts";
import { fetcherKey, isTenantSlug } from "../../shared/edge/serving-path.ts";
import { apiKeyDigest, apiKeyPattern } from "../../shared/tenancy/api-key.ts";
import type { EdgeCache, Entry, Source } from "./cache.ts";

/** So long a revoked key may still be taken, and a new key be refused that was tried before it was made. */
export const fetcherMsMax = 5_000;
export const unknownKeyMsMax = 1_000;

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

const rule = { digest: null, freshMs: fetcherMsMax, missingMs: unknownKeyMsMax } as const;

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

  /** `onBroken`: told of each file that is no fetcher's; its key opens nothing. */
  constructor(cache: EdgeCache, onBroken: () => void) {
    this.#cache = cache;
    this.#onBroken = onBroken;
  }

  async find(authorization: string | null, now: number): Promise<WhoIsIt> {
    const key = bearerKey(authorization);
    if (key === null) return { state: "unknown", source: null };
    const read = await this.#cache.read(fetcherKey(await apiKeyDigest(key)), rule);
    const { source } = read;
    if (read.state === "missing") return { state: "unknown", source };
    if (read.state !== "found") return { state: "unavailable", source };
    const fetcher = this.#fetcherIn(read.entry);
    if (fetcher === null || fetcher.expiresAt <= now) return { state: "unknown", source };
    return { state: "known", fetcher, source };
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
