// From what each request of the drill was answered, and when which authority was revoked, to figures. Pure; called by
// key-rotation.ts.

import type { Figures } from "../bench/benchmark.ts";
import { median, percentile, rounded } from "../bench/statistics.ts";
import { loadKinds, type KeySetting, type LoadKind } from "./key-plan.ts";

/** Of one thing that the load did; times are ms since 1970, as everywhere here. */
export interface WorkRecord {
  readonly kind: LoadKind;
  readonly due: number;
  readonly started: number;
  readonly ended: number;
  /** Null where it got what it should; else why not, in words. */
  readonly fault: string | null;
}

export const places = ["a", "b", "api_token", "api_certificate"] as const;
export type Place = (typeof places)[number];

/** An SVID that was presented by intent, whatever had become of its authority. */
export interface PresentedRecord {
  readonly place: Place;
  /** Which authority's: 0 is the first. */
  readonly generation: number;
  readonly started: number;
  readonly ended: number;
  /** 0: there was no answer. */
  readonly status: number;
  /** Over a connection that was open before. */
  readonly reused: boolean;
}

/** When an authority was revoked: nothing that begins after it returned may be accepted. */
export interface Revocation {
  readonly generation: number;
  /** When the bundle without it was sent. */
  readonly sent: number;
  /** When the API had answered: there it is over then. */
  readonly api_returned: number;
  /** When both stores had been read back and the edges' lease was over. */
  readonly edges_returned: number;
}

export interface RotationTimes {
  readonly identity: "signer" | "fetchers";
  readonly started: number;
  readonly revoked: number;
}

export type Judgement = "in_force" | "between" | "revoked";

/** By when the request began against when the revocation returned, and by when it ended against when it was sent. */
export function judge(
  { place, started, ended }: Pick<PresentedRecord, "place" | "started" | "ended">,
  revocation: Revocation | undefined,
): Judgement {
  if (revocation === undefined || ended <= revocation.sent) return "in_force";
  const returned = place === "a" || place === "b" ? revocation.edges_returned : revocation.api_returned;
  return started > returned ? "revoked" : "between";
}

export interface KeyMeasured {
  readonly began: number;
  readonly stopped: number;
  readonly work: readonly WorkRecord[];
  readonly presented: readonly PresentedRecord[];
  readonly revocations: readonly Revocation[];
  readonly rotations: readonly RotationTimes[];
  /** Calls of the rotations themselves that were answered a 5xx, and sent again. */
  readonly troubles: readonly { readonly at: number; readonly status: number; readonly words: string }[];
}

export interface KeyAccount {
  readonly headline: Figures;
  readonly parts: Readonly<Record<string, Figures>>;
  /** The first few things that should not have been, in words. */
  readonly complaints: readonly string[];
}

const complaintsMax = 10;

export function keyFigures(setting: KeySetting, measured: KeyMeasured): KeyAccount {
  const { began, stopped, work, presented, revocations, rotations, troubles } = measured;
  const complaints: string[] = [];
  const complain = (at: number, words: string): void => {
    if (complaints.length < complaintsMax) complaints.push(`${((at - began) / 1_000).toFixed(2)} s: ${words}`);
  };
  let failed = 0;
  for (const { kind, started, fault } of work) {
    if (fault === null) continue;
    failed += 1;
    complain(started, `${kind} failed: ${fault}`);
  }
  // A 503 says itself that it is to be sent again; any other one is a fault.
  for (const { at, words } of troubles.filter(({ status }) => status !== 503)) {
    failed += 1;
    complain(at, words);
  }
  const counts = { in_force: 0, between: 0, between_accepted: 0, after: 0, after_reused: 0, after_not_401: 0 };
  let accepted = 0;
  for (const record of presented) {
    const { place, generation, started, status, reused } = record;
    const judgement = judge(
      record,
      revocations.find((one) => one.generation === generation),
    );
    const isAccepted = status >= 200 && status < 300;
    const words = `the SVID of authority ${generation} at ${place} was answered ${status}`;
    if (judgement === "in_force") {
      counts.in_force += 1;
      if (isAccepted) continue;
      failed += 1;
      complain(started, `${words} before it was revoked`);
    } else if (judgement === "between") {
      counts.between += 1;
      if (isAccepted) counts.between_accepted += 1;
    } else {
      counts.after += 1;
      if (reused) counts.after_reused += 1;
      if (isAccepted) {
        accepted += 1;
        complain(started, `${words} after its revocation had returned`);
      } else if (status !== 401) counts.after_not_401 += 1;
    }
  }
  const loadS = (stopped - began) / 1_000;
  const within = work.filter(({ ended, fault }) => fault === null && ended <= stopped).length;
  const durations = (of: readonly RotationTimes[]): number[] =>
    of.map(({ started, revoked }) => (revoked - started) / 1_000);
  const all = durations(rotations);
  const ofIdentity = (identity: RotationTimes["identity"]): Figures => {
    const seconds = durations(rotations.filter((one) => one.identity === identity));
    return {
      rotations: seconds.length,
      median_s: rounded(median(seconds)),
      slowest_s: rounded(percentile(seconds, 1)),
      fastest_s: rounded(Math.min(...seconds)),
    };
  };
  return {
    complaints,
    headline: {
      requests: work.length,
      failed,
      accepted_after_revocation: accepted,
      rotation_p95_s: rounded(percentile(all, 0.95)),
      rotation_median_s: rounded(median(all)),
      rotations: rotations.length,
      presented_after_revocation: counts.after,
      offered_per_s: setting.offered_per_s,
      reached_per_s: rounded(within / loadS),
      load_s: rounded(loadS),
    },
    parts: {
      rotating: { sent_again: troubles.length },
      signer: ofIdentity("signer"),
      fetchers: ofIdentity("fetchers"),
      revoked_svids: {
        presented_in_force: counts.in_force,
        presented_between: counts.between,
        accepted_between: counts.between_accepted,
        presented_after: counts.after,
        presented_after_on_open_connections: counts.after_reused,
        refused_otherwise_than_401: counts.after_not_401,
      },
      ...Object.fromEntries(loadKinds.map((kind) => [kind, ofKind(work.filter((one) => one.kind === kind))])),
    },
  };
}

function ofKind(work: readonly WorkRecord[]): Figures {
  const count = { requests: work.length, failed: work.filter(({ fault }) => fault !== null).length };
  if (work.length === 0) return count;
  const ms = work.map(({ due, ended }) => ended - due);
  const late = work.map(({ due, started }) => started - due);
  return {
    ...count,
    p50_ms: rounded(median(ms)),
    p99_ms: rounded(percentile(ms, 0.99)),
    slowest_ms: rounded(percentile(ms, 1)),
    begun_late_p99_ms: rounded(percentile(late, 0.99)),
  };
}
