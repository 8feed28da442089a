// What the board of the fleet means beside what is published: which instances are current, which are not and since when. Pure;
// called by workers/api/edge/read-fleet.ts for GET /api/edge/fleet and for the metrics.

import {
  fleetStates,
  silentMs,
  staleMs,
  type FleetInstance,
  type FleetPolicy,
  type FleetProvider,
  type FleetState,
  type FleetSummary,
  type ReportedPolicy,
  type StateCounts,
} from "../contract/http-edge.ts";
import { isoTime } from "../contract/iso-time.ts";
import type { Channel } from "../contract/names.ts";
import { sum, type BoardView, type HeldInstance, type Totals } from "./fleet-board.ts";
import { lifeMs } from "./tuf.ts";

/** A revision of a channel, as the publisher knows it. */
export interface KnownRevision {
  readonly policy: string;
  readonly channel: Channel;
  readonly revision: number;
  readonly tar_sha256: string;
  readonly published_at: string;
}

/** What is published. */
export interface PublishedFacts {
  /** The newest revision of each policy and channel. */
  readonly heads: readonly KnownRevision[];
  /** Revisions before them, of those policies that some instance lags behind; as far as they are known. */
  readonly earlier: readonly KnownRevision[];
}

export interface Fleet {
  readonly summary: FleetSummary;
  /** The worst state first, then by id. */
  readonly instances: readonly FleetInstance[];
}

type HeldTotals = BoardView["instances"][number];

export const nameOf = ({ policy, channel }: { readonly policy: string; readonly channel: Channel }): string =>
  `${policy}/${channel}`;

/** Names of policies that some instance runs an older revision of: those whose history tells since when. */
export function laggingPolicies(board: BoardView, heads: readonly KnownRevision[]): string[] {
  const newest = new Map(heads.map((head) => [nameOf(head), head.revision]));
  const lagging = board.instances.flatMap(({ report }) =>
    report.policies.filter((one) => (one.active?.revision ?? 0) < (newest.get(nameOf(one)) ?? 0)),
  );
  return [...new Set(lagging.map(({ policy }) => policy))].toSorted();
}

export function fleetOf(board: BoardView, facts: PublishedFacts, now: number): Fleet {
  const heads = new Map(facts.heads.map((head) => [nameOf(head), head]));
  const known = new Map<string, KnownRevision[]>();
  for (const one of [...facts.heads, ...facts.earlier])
    known.set(nameOf(one), [...(known.get(nameOf(one)) ?? []), one]);
  const instances = board.instances
    .map((held) => instanceOf(held, heads, known, now))
    .toSorted((one, other) => rank(one.state) - rank(other.state));
  const policies = instances.flatMap((one) => one.policies);
  const heard = policies.filter(({ state }) => state !== "silent");
  const stale = heard.filter(({ behind_ms }) => behind_ms > staleMs).length;
  const totals = board.instances.reduce<Totals>((all, one) => sum(all, one.totals), board.gone);
  return {
    instances,
    summary: {
      all_current: policies.length > 0 && policies.every(({ state }) => state === "current"),
      instances: countStates(instances),
      policies: countStates(policies),
      stale_rate: heard.length === 0 ? null : stale / heard.length,
      heads: facts.heads.map(({ policy, channel, revision, tar_sha256, published_at }) => {
        return { policy, channel, revision, tar_sha256, published_at };
      }),
      counts: totals.counts,
      providers: providersOf(board, totals, now),
    },
  };
}

const rank = (state: FleetState): number => fleetStates.indexOf(state);
const isSilent = ({ reported_ms }: HeldInstance, now: number): boolean => now - reported_ms > silentMs;

/** How long ago something was that the fetcher's clock says: by that clock until the report, by ours since then. */
function agoOf(held: HeldInstance, at: string, now: number): number {
  const untilReport = Date.parse(held.report.sent_at) - Date.parse(at);
  return Math.max(0, Math.round(untilReport + now - held.reported_ms));
}

function instanceOf(
  held: HeldTotals,
  heads: ReadonlyMap<string, KnownRevision>,
  known: ReadonlyMap<string, readonly KnownRevision[]>,
  now: number,
): FleetInstance {
  const { report } = held;
  const verifiedMsAgo = report.metadata === null ? 0 : agoOf(held, report.metadata.verified_at, now);
  const policies = report.policies.map((one) =>
    policyOf(
      one,
      heads.get(nameOf(one)) ?? null,
      known.get(nameOf(one)) ?? [],
      isSilent(held, now),
      verifiedMsAgo,
      now,
    ),
  );
  const state = fleetStates.find((name) => policies.some((one) => one.state === name)) ?? "current";
  return {
    instance: report.instance,
    principal: held.principal,
    state,
    first_seen_at: isoTime(held.first_seen_ms),
    reported_at: isoTime(held.reported_ms),
    boot: report.boot,
    clock_ahead_ms: Date.parse(report.sent_at) - held.reported_ms,
    policies,
    metadata: metadataOf(report.metadata, verifiedMsAgo),
    providers: report.providers,
    counts: held.totals.counts,
    // Absent from reports of before fetchers had SVIDs.
    svid: report.svid ?? null,
  };
}

function metadataOf(metadata: HeldInstance["report"]["metadata"], verifiedMsAgo: number): FleetInstance["metadata"] {
  if (metadata === null) return null;
  const { verified_at: _, ...rest } = metadata;
  // The fetcher's word alone: from before 1970 there is no time that an answer could tell.
  const signedAt = Math.max(0, Date.parse(metadata.timestamp_expires_at) - lifeMs.timestamp);
  return { ...rest, timestamp_signed_at: isoTime(signedAt), verified_ms_ago: verifiedMsAgo };
}

function policyOf(
  { policy, channel, active, refusal }: ReportedPolicy,
  head: KnownRevision | null,
  known: readonly KnownRevision[],
  silent: boolean,
  verifiedMsAgo: number,
  now: number,
): FleetPolicy {
  const revision = active?.revision ?? 0;
  const lacks = head === null ? 0 : Math.max(0, head.revision - revision);
  const isTheirs = known.every((one) => one.revision !== revision || one.tar_sha256 === active?.tar_sha256);
  const isKnown = active === null || (head !== null && revision <= head.revision && isTheirs);
  const state: FleetState = silent
    ? "silent"
    : active !== null && Date.parse(active.expires_at) <= now
      ? "expired"
      : !isKnown
        ? "unknown"
        : active !== null && lacks === 0
          ? "current"
          : refusal !== null
            ? "refusing"
            : "behind";
  return {
    policy,
    channel,
    state,
    revision: active?.revision ?? null,
    head_revision: head?.revision ?? null,
    behind_revisions: lacks,
    behind_ms: lacks === 0 ? 0 : lackedMs(revision, known, now),
    refusal,
    proof: active === null ? null : { ...active, verified_ms_ago: verifiedMsAgo },
  };
}

/** Since the oldest revision beyond `revision` that is known was published. */
function lackedMs(revision: number, known: readonly KnownRevision[], now: number): number {
  const beyond = known.filter((one) => one.revision > revision).map((one) => Date.parse(one.published_at));
  return Math.max(0, now - Math.min(now, ...beyond));
}

function countStates(list: readonly { readonly state: FleetState }[]): StateCounts {
  const of = (name: FleetState): number => list.filter(({ state }) => state === name).length;
  const counts = Object.fromEntries(fleetStates.map((name) => [name, of(name)])) as Record<FleetState, number>;
  return { total: list.length, ...counts };
}

function providersOf(board: BoardView, totals: Totals, now: number): FleetProvider[] {
  const told = board.instances.filter((held) => !isSilent(held, now)).flatMap(({ report }) => report.providers);
  return Object.entries(totals.providers)
    .toSorted(([one], [other]) => (one < other ? -1 : 1))
    .map(([name, counts]) => {
      const theirs = told.filter((one) => one.name === name);
      const latencies = theirs.map(({ latency_ms }) => latency_ms).toSorted((one, other) => one - other);
      const answers = counts.cache_hits + counts.cache_misses;
      return {
        name,
        instances: theirs.length,
        breakers_open: theirs.filter(({ breaker }) => breaker === "open").length,
        breakers_half_open: theirs.filter(({ breaker }) => breaker === "half_open").length,
        latency_ms: latencies[Math.floor(latencies.length / 2)] ?? 0,
        ...counts,
        hit_ratio: answers === 0 ? null : counts.cache_hits / answers,
      };
    });
}
