// From what each fetch of the drill was answered, and what was published when, to figures. Pure; called by cdn-swap.ts.

import type { Figures } from "../bench/benchmark.ts";
import { median, percentile, rounded } from "../bench/statistics.ts";
import type { SwapSetting } from "./swap-plan.ts";

/** Of one logical fetch; times are ms since 1970. */
export interface FetchRecord {
  readonly policy: number;
  readonly due: number;
  /** When the client began with it. */
  readonly started: number;
  readonly ended: number;
  /** SHA-256 of the bytes that it was given; null where it was given none. */
  readonly sha256: string | null;
  /** Requests for objects, and those of them that were hedges. */
  readonly attempts: number;
  readonly hedges: number;
}

export interface Release {
  readonly policy: number;
  readonly sha256: string;
  /** When both providers had it: ms since 1970; of what stood there before the load, 0. */
  readonly at: number;
}

export interface Account {
  readonly figures: Figures;
  /** The first few answers that should not have been, in words. */
  readonly complaints: readonly string[];
}

const complaintsMax = 5;

/** `startedAt`: of the load. */
export function swapFigures(
  setting: SwapSetting,
  startedAt: number,
  records: readonly FetchRecord[],
  releases: readonly Release[],
): Account {
  const history = new Map<number, Release[]>();
  for (const release of releases) {
    const list = history.get(release.policy) ?? [];
    list.push(release);
    history.set(release.policy, list);
  }
  const complaints: string[] = [];
  const complain = (words: string): void => {
    if (complaints.length < complaintsMax) complaints.push(words);
  };
  const seconds = (at: number): string => `${((at - startedAt) / 1_000).toFixed(2)} s`;
  /** By policy: since when the client has it too old. */
  const staleSince = new Map<number, number>();
  let [failed, wrong, stale, staleMs, behindMsMax] = [0, 0, 0, 0, 0];

  for (const record of records.toSorted((left, right) => left.ended - right.ended)) {
    const { policy, started, ended, sha256 } = record;
    if (sha256 === null) {
      failed += 1;
      complain(`policy ${policy}, due at ${seconds(record.due)}, was not had`);
      continue;
    }
    const revisions = history.get(policy) ?? [];
    const had = revisions.findIndex((release) => release.sha256 === sha256);
    if (had < 0) {
      wrong += 1;
      complain(`policy ${policy}, due at ${seconds(record.due)}, was had as ${sha256}, which was never published`);
      continue;
    }
    const next = revisions[had + 1];
    const behindMs = next === undefined ? 0 : Math.max(0, started - next.at);
    behindMsMax = Math.max(behindMsMax, behindMs);
    if (behindMs > setting.fresh_within_ms) {
      stale += 1;
      complain(
        `policy ${policy}, begun at ${seconds(started)}, was had as of before ${seconds(next!.at)}: ${Math.round(behindMs)} ms`,
      );
    }
    const isOld = next !== undefined && ended - next.at > setting.stale_after_ms;
    const since = staleSince.get(policy);
    if (isOld && since === undefined) staleSince.set(policy, ended);
    if (!isOld && since !== undefined) {
      staleMs += ended - since;
      staleSince.delete(policy);
    }
  }
  const endedAt = startedAt + setting.duration_ms;
  for (const since of staleSince.values()) staleMs += Math.max(0, endedAt - since);

  const latencies = records.map(({ due, ended }) => ended - due);
  const [from, to] = setting.quiet_ms.map((ms) => startedAt + ms) as [number, number];
  const quiet = records.flatMap(({ due, ended }) => (due >= from && due < to ? [ended - due] : []));
  const baseline = median(quiet);
  const added = latencies.map((ms) => Math.max(0, ms - baseline));
  /** Over 50 ms that is a fault's doing, or the cold start's: which one it was. */
  const phases = {
    cold: [0, setting.quiet_ms[0]],
    frozen: [setting.a_frozen_ms, setting.a_thawed_ms],
    lagging: [setting.a_thawed_ms, setting.a_caught_up_ms],
    dead: [setting.b_killed_ms, setting.duration_ms],
  } as const;
  const ofPhases: Record<string, number> = {};
  for (const [name, [begin, end]] of Object.entries(phases)) {
    const isIn = ({ due }: FetchRecord): boolean => due >= startedAt + begin && due < startedAt + end;
    const ms = records.filter(isIn).map(({ due, ended }) => Math.max(0, ended - due - baseline));
    ofPhases[`${name}_added_p999_ms`] = ms.length === 0 ? 0 : rounded(percentile(ms, 0.999), 3);
    ofPhases[`${name}_over_50_ms`] = ms.filter((added) => added > 50).length;
  }
  const total = (pick: (record: FetchRecord) => number): number =>
    records.reduce((sum, record) => sum + pick(record), 0);
  return {
    complaints,
    figures: {
      fetches: records.length,
      failed: failed + wrong,
      stale_served: stale,
      behind_max_ms: Math.round(behindMsMax),
      stale_seconds: rounded(staleMs / 1_000),
      baseline_ms: rounded(baseline, 3),
      added_p50_ms: rounded(percentile(added, 0.5), 3),
      added_p99_ms: rounded(percentile(added, 0.99), 3),
      added_p999_ms: rounded(percentile(added, 0.999), 3),
      added_max_ms: rounded(percentile(added, 1), 3),
      quiet_added_p999_ms: rounded(Math.max(0, percentile(quiet, 0.999) - baseline), 3),
      ...ofPhases,
      attempts: total(({ attempts }) => attempts),
      attempts_per_fetch: rounded(total(({ attempts }) => attempts) / records.length),
      hedged_share: rounded(total(({ hedges }) => hedges) / records.length),
      begun_late_p999_ms: rounded(
        percentile(
          records.map(({ due, started }) => started - due),
          0.999,
        ),
        3,
      ),
    },
  };
}
