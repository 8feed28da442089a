// What is held of one trust domain's bundle over time: the last good one, why a later document was refused, and when to ask
// again. Pure: whoever fetches the bundle endpoint keeps the state, calls this, and does what it says.

import { whyBackwards, type BundleOrder, type BundleVersion } from "../contract/bundle-order.ts";
import type { Refusal } from "./refusal.ts";
import type { TrustDomain } from "./spiffe-id.ts";
import { parseTrustBundle, type TrustBundle } from "./trust-bundle.ts";

export interface BundleState {
  readonly trustDomain: TrustDomain;
  /** The last good one. Null: nothing of this domain is believed yet. */
  readonly bundle: TrustBundle | null;
  /** The good document that had the highest sequence. */
  readonly newest: BundleOrder["newest"];
  /** The most that a good document had. */
  readonly distrusts: number;
  /** When the endpoint last gave a good document, also where it was the one that is held; milliseconds since 1970 UTC. */
  readonly confirmedAtMs: number | null;
  /** Why the last attempt brought nothing; null after one that did. */
  readonly refused: { readonly refusal: Refusal; readonly atMs: number } | null;
  /** Attempts since the last good one. */
  readonly failures: number;
  readonly refreshAtMs: number;
}

/** SPIFFE Trust Domain and Bundle 4.1.2: the hint is one, and kept within these. */
const refreshSecondsMin = 10;
const refreshSecondsMax = 3_600;
/** SPIFFE Federation 4.1: five minutes, where there is no hint. */
const refreshSecondsDefault = 300;
/** While there is no bundle at all. */
const firstSeconds = 30;

export const emptyBundleState = (trustDomain: TrustDomain, now: number): BundleState => ({
  trustDomain,
  bundle: null,
  newest: null,
  distrusts: 0,
  confirmedAtMs: null,
  refused: null,
  failures: 0,
  refreshAtMs: now,
});

/** The state after the endpoint answered with `document` at `now`. A document that is refused leaves the bundle as it was. */
export async function receiveBundle(state: BundleState, document: string, now: number): Promise<BundleState> {
  const parsed = await parseTrustBundle(state.trustDomain, document);
  if (!parsed.ok) return failed(state, parsed.refusal, now);
  const { sequence, digest, distrusts } = parsed.value;
  const backwards = whyNotAfter(state, parsed.value);
  if (backwards !== null) return failed(state, backwards, now);
  return {
    trustDomain: state.trustDomain,
    bundle: state.bundle?.digest === digest ? state.bundle : parsed.value,
    newest: sequence === null ? state.newest : { sequence, digest, distrusts },
    distrusts,
    confirmedAtMs: now,
    refused: null,
    failures: 0,
    refreshAtMs: now + refreshSeconds(parsed.value) * 1_000,
  };
}

/** The state after the endpoint gave no document at all at `now`. `reason`: a sentence without its full stop. */
export const missBundle = (state: BundleState, reason: string, now: number): BundleState =>
  failed(state, { section: "SPIFFE Federation 5.2", reason }, now);

/** Null: it may follow. */
export function whyNotAfter(order: BundleOrder, version: BundleVersion): Refusal | null {
  const why = whyBackwards(order, version);
  if (why === null) return null;
  if (why === "distrusts") {
    const missing = order.distrusts - version.distrusts;
    return { section: "ADR-1243", reason: `the bundle is of before ${missing} of its authorities were distrusted` };
  }
  const { sequence } = version;
  return {
    section: "SPIFFE Trust Domain and Bundle 4.1.1",
    reason:
      why === "sequence"
        ? `the bundle has sequence ${sequence}, which is before ${order.newest?.sequence}`
        : `the bundle has changed and still has sequence ${sequence}`,
  };
}

function refreshSeconds({ refreshHint }: TrustBundle): number {
  return Math.min(refreshSecondsMax, Math.max(refreshSecondsMin, refreshHint ?? refreshSecondsDefault));
}

/** SPIFFE Federation 6.2: after a failure it is asked again at the next interval, not sooner. */
function failed(state: BundleState, refusal: Refusal, now: number): BundleState {
  const seconds = state.bundle === null ? firstSeconds : refreshSeconds(state.bundle);
  return {
    ...state,
    failures: state.failures + 1,
    refused: { refusal, atMs: now },
    refreshAtMs: now + seconds * 1_000,
  };
}
