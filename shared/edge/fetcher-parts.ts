// What a fetcher of edge policy is made of, and what it tells: the parts that are handed in, and the shapes of its answers. Types,
// and the content types of a provider's objects.

import type { Clock } from "../contract/ports.ts";
import type { ArchiveTools } from "../signing/package-archive.ts";
import type { EdgeCounters } from "./edge-counters.ts";
import type { ActivePolicy, HeldStore } from "./held-state.ts";
import type { DeltaTools } from "./patch-tar.ts";
import type { Refusal } from "./refusal.ts";
import type { Attempt, Objection, Timer } from "./route-object.ts";
import type { Routing } from "./routing.ts";

/** One object of a provider's store. */
export interface Wanted {
  readonly key: string;
  readonly bytesMax: number;
  /** What it must be served as. */
  readonly contentType: string;
}

export const contentTypes = {
  metadata: "application/json",
  policy: "application/gzip",
  delta: "application/zstd",
  statement: "application/json",
} as const;

export interface EdgeFetcherParts {
  /** The tenant's slug. */
  readonly tenant: string;
  /** Names, in the order of the providers' file. */
  readonly providers: readonly string[];
  /** Keys whose statements are believed: SPKI DER in base64. */
  readonly publishers: readonly string[];
  readonly start: (provider: string, wanted: Wanted) => Attempt;
  readonly store: HeldStore;
  readonly tools: ArchiveTools & DeltaTools;
  readonly clock: Clock;
  readonly timer: Timer;
  readonly counters: EdgeCounters;
  /** Of these providers, shared with whoever fetches beside it; one of its own, where it is not given. */
  readonly routing?: Routing;
}

/** What a refresh means for one policy on one channel. `active`: what is served from now on. */
export type Verdict =
  | { readonly verdict: "activated"; readonly active: ActivePolicy }
  | { readonly verdict: "current"; readonly active: ActivePolicy }
  /** Every provider that answered is older than what is held. */
  | { readonly verdict: "behind"; readonly active: ActivePolicy | null }
  | { readonly verdict: "refused"; readonly refusal: Refusal; readonly active: ActivePolicy | null }
  /** The last one is past the end of the metadata that named it: nothing is served. `refusal`: why nothing followed. */
  | { readonly verdict: "expired"; readonly since: string; readonly refusal: Refusal };

export interface Refresh {
  /** By target path, for each that was asked for. */
  readonly verdicts: ReadonlyMap<string, Verdict>;
  /** What was said against single providers, also where another one had it right. */
  readonly objections: readonly Objection[];
  /** Why whole bundles were fetched where a delta was named, a sentence each. */
  readonly failedDeltas: readonly Refusal[];
  /** Whose metadata was taken; null where nobody's was. */
  readonly from: string | null;
}

export type Serving =
  | { readonly state: "ready"; readonly active: ActivePolicy }
  | { readonly state: "expired"; readonly since: string }
  /** There is one, whose publisher is not among those that are believed now. */
  | { readonly state: "unbelieved" }
  | { readonly state: "none" };
