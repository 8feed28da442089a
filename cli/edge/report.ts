// What a fetcher has to report: gathered from each refresh, with counts since this process began. Held by fleet-reporter.ts.

import type { EdgeReport, FetcherCounts } from "../../shared/contract/http-edge.ts";
import { staleMs } from "../../shared/contract/http-edge.ts";
import type { EdgeCounts } from "../../shared/edge/edge-counters.ts";
import type { Refresh, Verdict } from "../../shared/edge/fetcher-parts.ts";
import type { HeldState } from "../../shared/edge/held-state.ts";
import type { Refusal } from "../../shared/edge/refusal.ts";
import type { ProviderStanding } from "../../shared/edge/routing.ts";
import { parseTargetPath } from "../../shared/edge/tuf.ts";

/** One refresh, and how the fetcher stands after it. */
export interface Seen {
  readonly refresh: Refresh;
  readonly held: HeldState;
  readonly standings: readonly ProviderStanding[];
  readonly counts: EdgeCounts;
  readonly now: number;
}

/** Which answers of each provider came out of its edge's cache: what Cache-Status (RFC 9211) says. Counted as they come. */
export class CacheCounts {
  readonly #counts = new Map<string, { hits: number; misses: number }>();

  saw(provider: string, cacheStatus: string | undefined): void {
    if (cacheStatus === undefined) return;
    const counts = this.of(provider);
    if (/;\s*hit(?:\s*[;,]|\s*$)/.test(cacheStatus)) counts.hits += 1;
    else counts.misses += 1;
    this.#counts.set(provider, counts);
  }

  of(provider: string): { hits: number; misses: number } {
    return this.#counts.get(provider) ?? { hits: 0, misses: 0 };
  }
}

export class ReportBook {
  readonly #caches: CacheCounts;
  readonly #before: EdgeCounts;
  readonly #mismatches = new Map<string, number>();
  /** By target path: why, whose, since when. */
  readonly #refusals = new Map<string, NonNullable<EdgeReport["policies"][number]["refusal"]>>();
  #staleMs = 0;
  #seen: Seen | null = null;

  /** `before`: what was counted before this process began. */
  constructor(before: EdgeCounts, caches: CacheCounts) {
    this.#before = before;
    this.#caches = caches;
  }

  saw(seen: Seen): void {
    const { refresh, counts, now } = seen;
    const freshAt = counts.refreshed_at === null ? -Infinity : Date.parse(counts.refreshed_at);
    if (this.#seen !== null) this.#staleMs += Math.max(0, now - Math.max(this.#seen.now, freshAt + staleMs));
    this.#seen = seen;
    for (const { provider, refusal } of refresh.objections)
      if (isMismatch(refusal)) this.#mismatches.set(provider, (this.#mismatches.get(provider) ?? 0) + 1);
    for (const [path, verdict] of refresh.verdicts) this.#noteRefusal(path, verdict, seen);
  }

  /** What was last seen; null before the first refresh. */
  report(): Omit<EdgeReport, "instance" | "boot" | "boot_id" | "sequence" | "sent_at" | "svid"> | null {
    if (this.#seen === null) return null;
    const { refresh, held, standings, counts } = this.#seen;
    return {
      policies: [...refresh.verdicts.keys()].flatMap((path) => {
        const name = parseTargetPath(path);
        const active = held.active[path];
        if (name === null) return [];
        return {
          ...name,
          active:
            active === undefined
              ? null
              : {
                  revision: active.revision,
                  tar_sha256: active.tar_sha256,
                  activated_at: active.activated_at,
                  expires_at: active.expires_at,
                  provider: active.from,
                },
          refusal: this.#refusals.get(path) ?? null,
        };
      }),
      metadata: metadataOf(held, counts),
      providers: standings.map(({ name, breaker, latency_ms }) => {
        const { hits, misses } = this.#caches.of(name);
        return {
          name,
          breaker,
          latency_ms: Math.round(latency_ms),
          cache_hits: hits,
          cache_misses: misses,
          mismatches: this.#mismatches.get(name) ?? 0,
        };
      }),
      counts: this.#counts(counts),
    };
  }

  #noteRefusal(path: string, verdict: Verdict, { refresh, now }: Seen): void {
    if (verdict.verdict !== "refused" && verdict.verdict !== "expired") {
      this.#refusals.delete(path);
      return;
    }
    const { code } = verdict.refusal;
    const provider = refresh.objections.find(({ refusal }) => refusal === verdict.refusal)?.provider ?? null;
    const before = this.#refusals.get(path);
    const since = before?.code === code ? before.since : new Date(now).toISOString();
    this.#refusals.set(path, { code, provider, since });
  }

  #counts(now: EdgeCounts): FetcherCounts {
    const since = (name: Exclude<keyof FetcherCounts, "refusals" | "stale_ms">) =>
      Math.max(0, now[name] - this.#before[name]);
    return {
      refreshes: since("refreshes"),
      activated: since("activated"),
      fetches: since("fetches"),
      failovers: since("failovers"),
      hedges: since("hedges"),
      behind: since("behind"),
      refusals: Math.max(0, total(now.refused) - total(this.#before.refused)),
      mismatches: since("mismatches"),
      deltas_applied: since("deltas_applied"),
      deltas_failed: since("deltas_failed"),
      delta_bytes: since("delta_bytes"),
      whole_bytes: since("whole_bytes"),
      stale_ms: Math.round(this.#staleMs),
    };
  }
}

const total = (counts: Readonly<Record<string, number>>): number =>
  Object.values(counts).reduce((all, one) => all + one, 0);

/** Of this provider's bytes: other than their name, or than what is signed, says. */
const mismatches: ReadonlySet<Refusal["code"]> = new Set(["wrong_digest", "wrong_length", "mix_and_match"]);
const isMismatch = ({ code }: Refusal): boolean => mismatches.has(code);

interface Signed {
  readonly signed: { readonly version: number; readonly expires: string };
}
const signedOf = (text: string): Signed["signed"] => (JSON.parse(text) as Signed).signed;

/** The texts were verified before they were held. */
function metadataOf({ trusted }: HeldState, counts: EdgeCounts): EdgeReport["metadata"] {
  const { refreshed_at: verifiedAt, refreshed_from: provider } = counts;
  if (trusted.timestamp === null || trusted.targets === null || verifiedAt === null || provider === null) return null;
  const timestamp = signedOf(trusted.timestamp);
  return {
    root_version: signedOf(trusted.root).version,
    targets_version: signedOf(trusted.targets).version,
    timestamp_version: timestamp.version,
    timestamp_expires_at: new Date(timestamp.expires).toISOString(),
    verified_at: verifiedAt,
    provider,
  };
}
