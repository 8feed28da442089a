// What is held of one trust domain's bundle over time: the last good one, why a later document was refused, and when to ask
// again. Pure: whoever fetches the bundle endpoint keeps the state, calls this, and does what it says.

import type { Refusal } from "./refusal.ts";
import type { TrustDomain } from "./spiffe-id.ts";
import { parseTrustBundle, type TrustBundle } from "./trust-bundle.ts";

export interface BundleState {
  readonly trustDomain: TrustDomain;
  /** The last good one. Null: nothing of this domain is believed yet. */
  readonly bundle: TrustBundle | null;
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
const refreshSecondsMax = 86_400;
/** SPIFFE Federation 5.1: five minutes, where there is no hint. */
const refreshSecondsDefault = 300;
/** After a failure: doubled each time, and never later than the hint asks. */
const retrySecondsMin = 5;
const doublingsMax = 20;

export const emptyBundleState = (trustDomain: TrustDomain, now: number): BundleState => ({
  trustDomain,
  bundle: null,
  confirmedAtMs: null,
  refused: null,
  failures: 0,
  refreshAtMs: now,
});

/** The state after the endpoint answered with `document` at `now`. A document that is refused leaves the bundle as it was. */
export async function receiveBundle(state: BundleState, document: string, now: number): Promise<BundleState> {
  const parsed = await parseTrustBundle(state.trustDomain, document);
  if (!parsed.ok) return failed(state, parsed.refusal, now);
  const backwards = state.bundle === null ? null : whyNotAfter(state.bundle, parsed.value);
  if (backwards !== null) return failed(state, backwards, now);
  return {
    trustDomain: state.trustDomain,
    bundle: state.bundle?.digest === parsed.value.digest ? state.bundle : parsed.value,
    confirmedAtMs: now,
    refused: null,
    failures: 0,
    refreshAtMs: now + refreshSeconds(parsed.value) * 1_000,
  };
}

/** The state after the endpoint gave no document at all at `now`. `reason`: a sentence without its full stop. */
export const missBundle = (state: BundleState, reason: string, now: number): BundleState =>
  failed(state, { section: "SPIFFE Trust Domain and Bundle 5", reason }, now);

/** SPIFFE Trust Domain and Bundle 4.1.1: the sequence rises, and changes with every change. Null: it may follow. */
function whyNotAfter(held: TrustBundle, next: TrustBundle): Refusal | null {
  const section = "SPIFFE Trust Domain and Bundle 4.1.1";
  if (held.sequence === null) return null;
  if (next.sequence === null) return { section, reason: `the bundle has no sequence, and the one before had` };
  if (next.sequence < held.sequence) {
    return { section, reason: `the bundle has sequence ${next.sequence}, which is before ${held.sequence}` };
  }
  if (next.sequence === held.sequence && next.digest !== held.digest) {
    return { section, reason: `the bundle has changed and still has sequence ${held.sequence}` };
  }
  return null;
}

function refreshSeconds({ refreshHint }: TrustBundle): number {
  return Math.min(refreshSecondsMax, Math.max(refreshSecondsMin, refreshHint ?? refreshSecondsDefault));
}

function failed(state: BundleState, refusal: Refusal, now: number): BundleState {
  const failures = state.failures + 1;
  const usual = state.bundle === null ? refreshSecondsDefault : refreshSeconds(state.bundle);
  const seconds = Math.min(usual, retrySecondsMin * 2 ** Math.min(doublingsMax, failures - 1));
  return { ...state, failures, refused: { refusal, atMs: now }, refreshAtMs: now + seconds * 1_000 };
}
