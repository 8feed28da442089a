// An open-loop load as a plan: what is committed when, whatever the system does meanwhile. A plan that waited for answers
// would send less just when the system is slow, and so leave the worst lags out (coordinated omission). Pure.

export interface LoadSetting {
  readonly name: string;
  /** All tenants together. */
  readonly events_per_s: number;
  readonly tenants: number;
  readonly duration_s: number;
  readonly commit_every_ms: number;
}

/** A commit each 20 ms, as a busy API makes them. */
export const loadSetting = (given: Omit<LoadSetting, "commit_every_ms">): LoadSetting => ({
  ...given,
  commit_every_ms: 20,
});

export interface PlannedCommit {
  /** From the start of the load. */
  readonly at_ms: number;
  /** The number of the tenant, from 0: a commit is one tenant's. */
  readonly tenant: number;
  readonly events: number;
}

/** Commits at equal distances, tenant after tenant in turn, with exactly `events_per_s` × `duration_s` events. */
export function commitPlan(setting: LoadSetting): PlannedCommit[] {
  const { events_per_s: rate, tenants, duration_s: seconds, commit_every_ms: every } = setting;
  if (![rate, tenants, seconds, every].every((value) => Number.isFinite(value) && value > 0)) {
    throw new RangeError(`a load's figures are over 0: ${JSON.stringify(setting)}`);
  }
  const plan: PlannedCommit[] = [];
  const total = Math.round(rate * seconds);
  let planned = 0;
  for (let at = 0; at * every < seconds * 1_000; at += 1) {
    const isLast = (at + 1) * every >= seconds * 1_000;
    // Up to the end of this commit's stretch of time; what division leaves over comes with a later commit.
    const due = isLast ? total : Math.floor((rate * (at + 1) * every) / 1_000);
    if (due > planned) plan.push({ at_ms: at * every, tenant: at % tenants, events: due - planned });
    planned = Math.max(planned, due);
  }
  return plan;
}

/** A tenant's rows […, below) were seen at `at`. Sightings are in order of both. */
export interface Sighting {
  readonly at: number;
  readonly below: number;
}

/** When each of the rows 0 to `rows` - 1 was first seen; null for those that never were. */
export function firstSeen(sightings: readonly Sighting[], rows: number): (number | null)[] {
  const seen: (number | null)[] = [];
  for (const { at, below } of sightings) while (seen.length < Math.min(below, rows)) seen.push(at);
  while (seen.length < rows) seen.push(null);
  return seen;
}
