// What runs say of a rollout: how many started and failed on either side. The SQL of the health gate, and of the shares that
// it expects. Called by the upgrade route and by the RolloutGates object.

import { sql } from "drizzle-orm";
import type { BeforeRollout, GateCounts } from "../market/gate.ts";
import type { PackageState, RunningRollout } from "../market/package-state.ts";
import { asTenant, type Database } from "../tenancy/database.ts";

/** What an install did in so many days before a rollout says what it will do. */
const daysBefore = 7;
/** Runs of one rollout that the gate looks at: the first so many of each arm. */
const runsMax = 20_000;

/** Runs of each install of the package in the days before `now`, as a function of the cohort. */
export async function runsBefore(
  database: Database,
  tenantId: string,
  state: PackageState,
  now: number,
): Promise<(cohort: ReadonlySet<string>) => BeforeRollout> {
  const since = new Date(now - daysBefore * 86_400_000).toISOString();
  const [rows] = await asTenant(database, tenantId, [
    sql`select install_id, count(*)::int as runs from executions
        where tenant_id = ${tenantId} and package = ${state.package} and started_at >= ${since} and install_id is not null
        group by install_id`,
  ]);
  const runs = new Map((rows ?? []).map((row) => [String(row["install_id"]), Number(row["runs"])]));
  const sum = (ids: readonly string[]): number => ids.reduce((total, id) => total + (runs.get(id) ?? 0), 0);
  return (cohort) => {
    const ids = state.installs.map((install) => install.id);
    const ours = ids.filter((id) => cohort.has(id));
    const theirs = ids.filter((id) => !cohort.has(id));
    return {
      cohort_runs: sum(ours),
      other_runs: sum(theirs),
      cohort_installs: ours.length,
      other_installs: theirs.length,
    };
  };
}

/**
 * Counts for the gate, of runs that started since it counts. Blocks are filled in the order in which runs STARTED, which
 * no outcome can change (gate.ts says why the order of their ends would); a block counts once the runs that started as
 * many places later have ended, and what has not ended yet counts the harmless way round.
 */
export async function gateCounts(database: Database, tenantId: string, rollout: RunningRollout): Promise<GateCounts> {
  const perBlock = rollout.old_runs_per_block;
  const [rows] = await asTenant(database, tenantId, [
    sql`with runs as (
          select release_id = ${rollout.release_id} as is_new, status,
            row_number() over (partition by release_id = ${rollout.release_id} order by started_at, id) as place
          from executions
          where tenant_id = ${tenantId} and rollout_id = ${rollout.id} and started_at >= ${rollout.gate_since}
        ), sizes as (
          select count(*) filter (where is_new)::int as new_started, count(*) filter (where not is_new)::int as old_started,
            count(*) filter (where is_new and status <> 'running')::int as new_runs,
            count(*) filter (where not is_new and status <> 'running')::int as old_runs
          from runs
        ), blocks as (
          select *, least(new_runs, old_runs / ${perBlock}::int, ${runsMax}::int) as blocks from sizes
        )
        select b.*,
          (select count(*)::int from runs where is_new and place <= b.blocks and status in ('failed', 'expired')) as new_failures,
          (select count(*)::int from runs where not is_new and place <= b.blocks * ${perBlock}::int
            and status in ('failed', 'expired')) as old_failures,
          (select count(*)::int from runs where not is_new and place <= b.blocks * ${perBlock}::int
            and status = 'running') as old_unfinished
        from blocks b`,
  ]);
  const row = rows?.[0] ?? {};
  const count = (name: string): number => Number(row[name] ?? 0);
  return {
    old_runs_per_block: perBlock,
    expected_new_share_ppm: rollout.expected_new_share_ppm,
    expected_share_of: rollout.expected_share_of,
    new_started: count("new_started"),
    old_started: count("old_started"),
    new_runs: count("new_runs"),
    old_runs: count("old_runs"),
    blocks: count("blocks"),
    new_failures: count("new_failures"),
    old_failures: count("old_failures"),
    old_unfinished: count("old_unfinished"),
  };
}
