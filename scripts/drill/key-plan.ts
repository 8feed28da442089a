// The drill of rotating keys as a plan: what is asked how often and when, and what is the next move of an authority's rotation
// from what is seen of it. Pure; called by key-rotation.ts, its load and authority-rotation.ts.

import type { RotationState } from "../../shared/contract/http-rotations.ts";

/** What the load does. The first four present SVIDs; the others are callers with keys. */
export const loadKinds = [
  "fetch_a",
  "fetch_b",
  "call_token",
  "call_certificate",
  "install",
  "verify",
  "publish",
  "receipt",
] as const;
export type LoadKind = (typeof loadKinds)[number];

export interface KeySetting {
  /** Shorter ones are for whoever works on the drill: their figures are not the drill's. */
  readonly variant: "full" | "short";
  /** Of each identity, one after the other. */
  readonly rotations: number;
  readonly per_s: Readonly<Record<LoadKind, number>>;
  readonly offered_per_s: number;
  /** The load alone, before the first rotation begins and after the last one has ended. */
  readonly lead_ms: number;
  readonly tail_ms: number;
  readonly policies: number;
  readonly bundle_bytes: number;
  /** Every authority's SVID is presented so often at each place, by intent, long after it was revoked. */
  readonly present_every_ms: number;
  /** From before its revocation until the next authority's. */
  readonly present_closely_every_ms: number;
  readonly svid_ttl_s: number;
}

export interface PlannedWork {
  readonly kind: LoadKind;
  /** From the start of the load. */
  readonly at_ms: number;
}

/** Open loop: what is due after `fromMs` and not after `toMs`, each kind at equal distances of its own, in order. */
export function dueBetween(perSecond: Readonly<Record<LoadKind, number>>, fromMs: number, toMs: number): PlannedWork[] {
  const due = loadKinds.flatMap((kind) => {
    const everyMs = 1_000 / perSecond[kind];
    // Half a distance in, so that the kinds do not begin all at once.
    const first = Math.max(0, Math.floor(fromMs / everyMs - 0.5) + 1);
    const last = Math.floor(toMs / everyMs - 0.5);
    return Array.from({ length: Math.max(0, last - first + 1) }, (_, at) => ({
      kind,
      at_ms: (first + at + 0.5) * everyMs,
    }));
  });
  return due.toSorted((left, right) => left.at_ms - right.at_ms);
}

/** What is seen of an authority's rotation. Nothing of it is remembered: whoever begins again sees the same. */
export interface AuthorityFacts {
  /** Of the rotation, as the product says it. */
  readonly state: RotationState;
  /** The other key that the authority has. */
  readonly beside: "none" | "prepared" | "active" | "old" | "tainted";
  /** The API has the authority's bundle in force. */
  readonly in_force: boolean;
  /** Clients were given SVIDs by the active key. */
  readonly reissued: boolean;
  /** No client presents another one any more, nor waits for an answer to one. */
  readonly replaced: boolean;
}

/** `await_…`: nothing is to be done but to look again. */
export type AuthorityMove =
  | "prepare"
  | "hand_in"
  | "activate"
  | "reissue"
  | "taint"
  | "revoke"
  | "await_rotation"
  | "await_replacement"
  | "done";

/** The tenant's own part: the product's rotation says when each is due. */
export function nextMove({ state, beside, in_force, reissued, replaced }: AuthorityFacts): AuthorityMove {
  switch (state) {
    case "prepare":
      // Left behind by somebody who was killed.
      if (beside === "old") return "taint";
      if (beside === "tainted") return "revoke";
      if (!in_force) return "hand_in";
      return beside === "prepared" ? "await_rotation" : "prepare";
    case "published":
      return "await_rotation";
    case "acknowledged":
      if (beside === "prepared") return "activate";
      return reissued ? "await_rotation" : "reissue";
    case "active":
    case "tainted":
      if (!reissued) return "reissue";
      return beside === "old" ? "taint" : "await_rotation";
    case "verified":
      if (beside === "old") return "taint";
      if (beside === "tainted" && !reissued) return "reissue";
      if (beside === "tainted") return replaced ? "revoke" : "await_replacement";
      return in_force ? "await_rotation" : "hand_in";
    default:
      return "done";
  }
}
