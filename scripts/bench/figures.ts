// From what was committed and what stands at the two ends of the chain to figures. Pure; called by the chain benchmark.

import type { Figures } from "./benchmark.ts";
import type { Committed } from "./load.ts";
import type { LoggedRow, Published } from "./observe.ts";
import { firstSeen, type Sighting } from "./schedule.ts";
import { percentile, rounded } from "./statistics.ts";

/** One tenant's. */
export interface Ends {
  readonly indexed: readonly LoggedRow[];
  readonly published: Published;
  readonly sightings: readonly Sighting[];
}

/**
 * Lost is what is missing at either end; duplicated and gaps are counted at both. A lag begins when the commit was due, so
 * that a load that could not be got through is part of it.
 */
export function figuresOf(committed: readonly Committed[], ends: readonly Ends[]): Figures {
  const lags: number[] = [];
  const manifestLags: number[] = [];
  const totals = { events: 0, lost: 0, duplicated: 0, gaps: 0, objects: 0 };
  for (const [tenant, { indexed, published, sightings }] of ends.entries()) {
    const ofTenant = committed.filter((commit) => commit.tenant === tenant);
    const visibleAt = firstSeen(sightings, (indexed.at(-1)?.seq ?? -1) + 1);
    // Backwards: where an event stands twice, its first row counts.
    const arrivedAt = new Map(indexed.toReversed().map(({ seq, eventId }) => [eventId, visibleAt[seq] ?? null]));
    const manifestAt = new Map([...timesOf(published)].toReversed());
    for (const { due_at: dueAt, event_ids: ids } of ofTenant) {
      for (const id of ids) {
        const [arrived, put] = [arrivedAt.get(id) ?? null, manifestAt.get(id) ?? null];
        totals.events += 1;
        if (arrived === null || put === null) totals.lost += 1;
        if (arrived !== null) lags.push((arrived - dueAt) / 1_000);
        if (put !== null) manifestLags.push((put - dueAt) / 1_000);
      }
    }
    for (const rows of [indexed, published.rows]) {
      totals.duplicated += rows.length - new Set(rows.map(({ eventId }) => eventId)).size;
      totals.gaps += rows.reduce(
        (missing, { seq }, at) => missing + Math.max(0, seq - ((rows[at - 1]?.seq ?? -1) + 1)),
        0,
      );
    }
    totals.objects += published.objects;
  }
  const { events, lost, duplicated, gaps, objects } = totals;
  const late = committed.map(({ due_at: dueAt, committed_at: at }) => at - dueAt);
  return {
    events,
    lost,
    duplicated,
    gaps,
    ...shares("lag", lags),
    ...shares("manifest_lag", manifestLags),
    puts_per_event: rounded(objects / events),
    commit_p50_ms: percentile(late, 0.5),
    commit_p95_ms: percentile(late, 0.95),
  };
}

/** Event id → when the manifest over its row was put; rows of a segment without a manifest are not published. */
function* timesOf({ manifests, rows }: Published): Generator<[string, number]> {
  let at = 0;
  for (const { seq, eventId } of rows) {
    while (at < manifests.length && manifests[at]!.range.to <= seq) at += 1;
    const manifest = manifests[at];
    if (manifest !== undefined && manifest.range.from <= seq) yield [eventId, manifest.putAt];
  }
}

const shares = (name: string, seconds: readonly number[]): Record<string, number> => ({
  [`${name}_p50_s`]: rounded(percentile(seconds, 0.5)),
  [`${name}_p95_s`]: rounded(percentile(seconds, 0.95)),
  [`${name}_max_s`]: rounded(percentile(seconds, 1)),
});
