// The drill of swapping CDN providers as a plan: which policy is asked for when, what is published when, what is done to whom.
// Pure; called by cdn-swap.ts and its load.

import { placeOf, zipfShares } from "../bench/pql-mix.ts";

/** Times are in ms from the start of the load. */
export interface SwapSetting {
  readonly fetches_per_s: number;
  readonly duration_ms: number;
  readonly policies: number;
  /** Of each bundle's data. */
  readonly bundle_bytes: number;
  readonly zipf_exponent: number;
  readonly publish_every_ms: number;
  /** Provider A says nothing from then on, and its store stays as it is. */
  readonly a_frozen_ms: number;
  /** A's edge answers again, with what its store had when it froze. */
  readonly a_thawed_ms: number;
  /** A's store has caught up. */
  readonly a_caught_up_ms: number;
  readonly b_killed_ms: number;
  /** Fetches due from the first to the second are the ones that the others are compared with. */
  readonly quiet_ms: readonly [from: number, to: number];
  /** Every provider is asked so often for what is newest. */
  readonly probe_every_ms: number;
  /** How long after it stands at both providers a revision may still be missed: the edge's timestamp, and a probe. */
  readonly fresh_within_ms: number;
  /** The plan's measure: behind by more is stale. */
  readonly stale_after_ms: number;
  readonly seed: number;
}

export interface PlannedFetch {
  readonly at_ms: number;
  /** The policy's number, from 0, the most asked for. */
  readonly policy: number;
}

/** https://en.wikipedia.org/wiki/Linear_congruential_generator, of Numerical Recipes: 0 to 1, the same for a seed. */
function chanceOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Open loop: at equal distances, whatever becomes of those before. The same setting, the same plan. */
export function fetchPlan(setting: SwapSetting): PlannedFetch[] {
  const chance = chanceOf(setting.seed);
  const shares = zipfShares(setting.policies, setting.zipf_exponent);
  const count = Math.round((setting.fetches_per_s * setting.duration_ms) / 1_000);
  return Array.from({ length: count }, (_, at) => ({
    at_ms: (at * 1_000) / setting.fetches_per_s,
    policy: placeOf(shares, chance()),
  }));
}

/** When something is published, and of which policy: the one that is asked for most, then the next one. */
export function publishPlan({ publish_every_ms: every, duration_ms: duration, policies }: SwapSetting): PlannedFetch[] {
  const count = Math.ceil(duration / every) - 1;
  return Array.from({ length: count }, (_, at) => ({ at_ms: (at + 1) * every, policy: at % policies }));
}
