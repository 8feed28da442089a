// Which bundle a channel of a tenant points to, by the provider's own timestamp → snapshot → targets. Called by app.ts for
// clients that know no TUF, like a stock OPA.

import { metadataKey } from "../../shared/edge/serving-path.ts";
import {
  readSnapshot,
  readTargets,
  readTimestamp,
  type NamedVersion,
  type ServedTimestamp,
} from "../../shared/edge/served-metadata.ts";
import type { CacheRule, EdgeCache, Entry, ReadOutcome, Source } from "./cache.ts";

/** How old a timestamp may be that is served without asking the store again. */
export const timestampMsMax = 1_000;

export const timestampRule: CacheRule = { digest: null, freshMs: timestampMsMax, missingMs: 0 };
export const versionedRule = (digest: string | null): CacheRule => ({ digest, freshMs: Infinity, missingMs: 0 });

export type ChannelOutcome =
  | { readonly state: "found"; readonly digest: string }
  /** The tenant has published nothing, or nothing on this channel. */
  | { readonly state: "missing" }
  /** The timestamp's life is over: nobody vouches for what it names any more. */
  | { readonly state: "expired" }
  | { readonly state: "unavailable" }
  | { readonly state: "corrupt" };

export class ChannelResolver {
  readonly #cache: EdgeCache;
  readonly #timestamps = new WeakMap<Entry, { readonly value: ServedTimestamp | null }>();
  readonly #snapshots = new WeakMap<Entry, { readonly value: NamedVersion | null }>();
  readonly #targets = new WeakMap<Entry, { readonly value: ReadonlyMap<string, string> | null }>();

  constructor(cache: EdgeCache) {
    this.#cache = cache;
  }

  /** `note` is told how each file came. */
  async resolve(tenant: string, target: string, now: number, note: (source: Source) => void): Promise<ChannelOutcome> {
    const read = async (file: string, rule: CacheRule): Promise<ReadOutcome> => {
      const outcome = await this.#cache.read(metadataKey(tenant, file), rule);
      note(outcome.source);
      return outcome;
    };
    const first = await read("timestamp.json", timestampRule);
    if (first.state !== "found") return { state: first.state };
    const timestamp = parsedOnce(this.#timestamps, first.entry, readTimestamp);
    if (timestamp === null) return { state: "corrupt" };
    if (timestamp.expiresAt <= now) return { state: "expired" };

    const { snapshot } = timestamp;
    const second = await read(`${snapshot.version}.snapshot.json`, versionedRule(snapshot.digest));
    if (second.state !== "found") return named(second.state);
    const targets = parsedOnce(this.#snapshots, second.entry, (bytes) => readSnapshot(bytes, snapshot.version));
    if (targets === null) return { state: "corrupt" };

    const third = await read(`${targets.version}.targets.json`, versionedRule(targets.digest));
    if (third.state !== "found") return named(third.state);
    const digests = parsedOnce(this.#targets, third.entry, (bytes) => readTargets(bytes, targets.version));
    if (digests === null) return { state: "corrupt" };
    const digest = digests.get(target);
    return digest === undefined ? { state: "missing" } : { state: "found", digest };
  }
}

/** What is named and not there is the store's fault, not the asker's: it may come yet. */
const named = (state: "missing" | "unavailable" | "corrupt"): ChannelOutcome =>
  state === "missing" ? { state: "unavailable" } : { state };

function parsedOnce<T>(known: WeakMap<Entry, { readonly value: T }>, entry: Entry, parse: (bytes: Uint8Array) => T): T {
  const kept = known.get(entry);
  if (kept !== undefined) return kept.value;
  const value = parse(entry.bytes);
  known.set(entry, { value });
  return value;
}
