// The SQL of a tenant's package: read in one batch, changed in one transaction that compares and sets its version.

import { sql, type SQL } from "drizzle-orm";
import { install, rollout, type GateReport, type Install } from "../contract/http-installs.ts";
import { channel, type Channel } from "../contract/names.ts";
import { outboxInsert } from "../outbox/outbox.ts";
import { asTenant, inBatch, type Database, type Row } from "../tenancy/database.ts";
import { forgetExpired, rememberAnswer, rememberOnly, type IdempotencyClaim } from "../tenancy/idempotency.ts";
import { countMetric } from "../tenancy/metrics-store.ts";
import type { PackageChange, PackageState, PlacedInstall, ReleaseRef, RunningRollout } from "./package-state.ts";

const iso = (value: unknown): string => new Date(String(value)).toISOString();
const isoOrNull = (value: unknown): string | null => (value === null || value === undefined ? null : iso(value));

export const installColumns = sql`i.id, i.package, i.name, i.version, i.channel, i.artifact_sha256, i.units, i.release_id,
  i.pinned, i.bucket, i.changed_at`;
export const installOf = (row: Row): Install => install.parse({ ...row, changed_at: iso(row["changed_at"]) });

export const rolloutColumns = sql`o.id, o.package, o.channel, o.version, o.release_id, o.artifact_sha256, o.cohort_percent,
  o.state, o.rule, o.reason, o.started_by, o.started_at, o.changed_at, o.ended_at, o.gate`;
export const rolloutOf = (row: Row) =>
  rollout.parse({
    ...row,
    started_at: iso(row["started_at"]),
    changed_at: iso(row["changed_at"]),
    ended_at: isoOrNull(row["ended_at"]),
  });
const planColumns = sql`o.gate_since, o.old_runs_per_block, o.expected_new_share_ppm, o.expected_share_of`;

export function runningRolloutOf(row: Row): RunningRollout {
  const { gate_since, old_runs_per_block, expected_new_share_ppm, expected_share_of, ...shown } = row;
  return {
    ...rolloutOf(shown),
    gate_since: iso(gate_since),
    old_runs_per_block: Number(old_runs_per_block),
    expected_new_share_ppm: Number(expected_new_share_ppm),
    expected_share_of: expected_share_of === "runs" ? "runs" : "installs",
  };
}

const refColumns = sql`r.id as release_id, r.version, r.version_order, r.artifact_sha256, r.units`;
const refFrom = (row: Row): ReleaseRef => ({
  release_id: String(row["release_id"]),
  version: String(row["version"]),
  version_order: String(row["version_order"]),
  artifact_sha256: String(row["artifact_sha256"]),
  units: Number(row["units"]),
});

export async function readPackage(database: Database, tenantId: string, name: string): Promise<PackageState> {
  const [states, installs, good, rollouts, bars] = await asTenant(database, tenantId, [
    sql`select version::int as version, frozen from package_states where tenant_id = ${tenantId} and package = ${name}`,
    sql`select ${installColumns}, r.version_order from installs i join releases r on r.id = i.release_id
        where i.tenant_id = ${tenantId} and i.package = ${name} order by i.name`,
    sql`select g.channel, ${refColumns}, r.state = 'yanked' as yanked from good_releases g join releases r on r.id = g.release_id
        where g.tenant_id = ${tenantId} and g.package = ${name}`,
    sql`select ${rolloutColumns}, ${planColumns} from rollouts o
        where o.tenant_id = ${tenantId} and o.package = ${name} and o.state = 'running'`,
    sql`select version, artifact_sha256 from release_bars
        where tenant_id = ${tenantId} and package = ${name} and lifted_at is null`,
  ]);
  return {
    package: name,
    version: Number(states?.[0]?.["version"] ?? 0),
    frozen: states?.[0]?.["frozen"] === true,
    installs: (installs ?? []).map(({ version_order: order, ...row }): PlacedInstall => ({
      ...installOf(row),
      version_order: String(order),
    })),
    good: new Map(
      (good ?? []).map(
        (row) => [channel.parse(row["channel"]), { ...refFrom(row), yanked: row["yanked"] === true }] as const,
      ),
    ),
    rollout: rollouts?.[0] === undefined ? null : runningRolloutOf(rollouts[0]),
    bars: (bars ?? []).map((row) => ({
      version: String(row["version"]),
      artifact_sha256: String(row["artifact_sha256"]),
    })),
  };
}

/** A release that an install once was on, and the channel that it followed then. */
export interface EarlierRelease extends ReleaseRef {
  readonly channel: Channel;
  /** No rollout of it was left unfinished, or a later one was completed. */
  readonly proven: boolean;
  readonly yanked: boolean;
}

/** By install id: the distinct releases of its history, the newest first, the one it is on included. */
export async function readEarlier(
  database: Database,
  tenantId: string,
  name: string,
): Promise<ReadonlyMap<string, readonly EarlierRelease[]>> {
  const [rows] = await asTenant(database, tenantId, [
    sql`select h.install_id, h.channel, ${refColumns}, r.state = 'yanked' as yanked, max(h.id) as newest,
          coalesce(o.completed or not o.unfinished, true) as proven
        from install_history h join releases r on r.id = h.release_id
        left join (
          select release_id, bool_or(state = 'completed') as completed,
            bool_or(state in ('superseded', 'aborted')) as unfinished
          from rollouts where tenant_id = ${tenantId} and package = ${name} group by release_id
        ) o on o.release_id = h.release_id
        where h.tenant_id = ${tenantId} and h.package = ${name} and h.install_id is not null
        group by h.install_id, h.channel, r.id, o.completed, o.unfinished order by newest desc`,
  ]);
  const byInstall = new Map<string, EarlierRelease[]>();
  for (const row of rows ?? []) {
    const id = String(row["install_id"]);
    const list = byInstall.get(id) ?? [];
    list.push({
      ...refFrom(row),
      channel: channel.parse(row["channel"]),
      proven: row["proven"] === true,
      yanked: row["yanked"] === true,
    });
    byInstall.set(id, list);
  }
  return byInstall;
}

export interface PackageWrite {
  readonly change: PackageChange;
  /** Version of the entitlements that it was decided on; null where they were not asked. */
  readonly entitlement_version: number | null;
  /** Null: the health gate. */
  readonly principal_id: string | null;
  readonly claim: IdempotencyClaim | null;
  readonly answer: { readonly status: number; readonly response: unknown };
  readonly now: number;
}

/**
 * Installs, history, rollouts, pins, bars, counters, events and answer in one transaction; false where the package or the
 * entitlements are no longer what was decided on: nothing changed, decide again.
 */
export async function writePackage(
  database: Database,
  tenantId: string,
  shards: number,
  write: PackageWrite,
): Promise<boolean> {
  const { change, claim, now, principal_id: by } = write;
  const at = new Date(now).toISOString();
  const remembered =
    claim === null ? sql`` : sql`, remembered as (${rememberAnswer(claim, now, write.answer, sql`from bumped`)})`;
  const [event] = change.events;
  if (event === undefined) throw new TypeError("a change without an event");
  const before = forgetExpired(claim, now);
  const results = await asTenant(database, tenantId, [
    ...before,
    sql`with ${bump(tenantId, write, at)}${moveParts(tenantId, change, by, at)}${holdParts(tenantId, change, by, at)}
      ${rolloutUpdates(tenantId, change)}${remembered}${counted(tenantId, change)}
      ${outboxInsert(change.events, shards, sql`where exists (select from bumped)`)}`,
    ...rolloutInserts(tenantId, change, sql`exists (select from outbox where event_id = ${event.id})`),
  ]);
  return (results[before.length] ?? []).length > 0;
}

/** The answer alone, where a decision changed nothing; false where the package or the entitlements have changed since. */
export async function rememberUnchanged(
  database: Database,
  tenantId: string,
  unchanged: Omit<PackageWrite, "change" | "principal_id"> & Pick<PackageChange, "package" | "from_version">,
): Promise<boolean> {
  const { claim, now, answer, package: name, from_version: version, entitlement_version: entitled } = unchanged;
  if (claim === null) return true;
  const ofPackage = sql`from package_states where tenant_id = ${tenantId} and package = ${name}`;
  const state =
    version === 0
      ? sql`(select 1 where not exists (select ${ofPackage})) held`
      : sql`(select 1 ${ofPackage} and version = ${version} for share) held`;
  const entitlements =
    entitled === null
      ? sql``
      : sql`, (select 1 from entitlement_versions where tenant_id = ${tenantId} and version = ${entitled} for share) entitled`;
  return rememberOnly(database, claim, now, answer, sql`from ${state}${entitlements}`);
}

function bump(tenantId: string, { change, entitlement_version: entitled }: PackageWrite, at: string): SQL {
  const guard = entitled === null ? sql`true` : sql`exists (select from entitled)`;
  const held =
    entitled === null
      ? sql``
      : sql`entitled as (
          select from entitlement_versions where tenant_id = ${tenantId} and version = ${entitled} for share
        ), `;
  const { freeze } = change;
  const bumped =
    change.from_version === 0
      ? sql`insert into package_states (tenant_id, package, version, changed_at)
            select ${tenantId}::uuid, ${change.package}, 1, ${at}::timestamptz where ${guard}
            on conflict do nothing returning version`
      : sql`update package_states set version = version + 1, changed_at = ${at}
            where tenant_id = ${tenantId} and package = ${change.package} and version = ${change.from_version} and ${guard}
            returning version`;
  if (freeze === undefined) return sql`${held}bumped as (${bumped})`;
  if (change.from_version === 0) throw new TypeError("a package without a state is not frozen");
  return sql`${held}bumped as (
    update package_states set version = version + 1, changed_at = ${at}, frozen = ${freeze.frozen},
      frozen_reason = ${freeze.frozen ? freeze.reason : null}
    where tenant_id = ${tenantId} and package = ${change.package} and version = ${change.from_version} returning version
  )`;
}

function moveParts(tenantId: string, { package: name, moves = [] }: PackageChange, by: string | null, at: string): SQL {
  if (moves.length === 0) return sql``;
  const rows = moves.map(({ row, from, cause, rollout_id }) => ({
    id: row.id,
    name: row.name,
    release_id: row.release_id,
    version: row.version,
    channel: row.channel,
    artifact_sha256: row.artifact_sha256,
    units: row.units,
    pinned: row.pinned,
    bucket: row.bucket,
    from_release_id: from?.release_id ?? null,
    cause,
    rollout_id,
  }));
  return sql`, wanted as (
      select w.* from bumped, jsonb_to_recordset(${JSON.stringify(rows)}::jsonb) as w(id text, name text, release_id text,
        version text, channel text, artifact_sha256 text, units int, pinned boolean, bucket int, from_release_id text,
        cause text, rollout_id text)
    ), placed as (
      insert into installs (tenant_id, package, name, id, release_id, version, channel, artifact_sha256, units, pinned,
        bucket, changed_at)
      select ${tenantId}::uuid, ${name}, name, id, release_id, version, channel, artifact_sha256, units, pinned, bucket,
        ${at}::timestamptz from wanted
      on conflict (tenant_id, package, name) do update set release_id = excluded.release_id, version = excluded.version,
        channel = excluded.channel, artifact_sha256 = excluded.artifact_sha256, units = excluded.units,
        pinned = excluded.pinned, changed_at = excluded.changed_at
    ), told as (
      insert into install_history (tenant_id, package, install_id, name, release_id, version, channel, artifact_sha256,
        from_release_id, cause, rollout_id, principal_id, changed_at)
      select ${tenantId}::uuid, ${name}, id, name, release_id, version, channel, artifact_sha256, from_release_id, cause,
        rollout_id, ${by}, ${at}::timestamptz from wanted
    )`;
}

function holdParts(tenantId: string, change: PackageChange, by: string | null, at: string): SQL {
  const { package: name, pins = [], bars = [], lifts = [], good = [] } = change;
  const parts: SQL[] = [];
  if (pins.length > 0) {
    parts.push(sql`, pinned as (
      update installs i set pinned = p.pinned, changed_at = ${at}
      from bumped, jsonb_to_recordset(${JSON.stringify(pins)}::jsonb) as p(install_id text, pinned boolean)
      where i.tenant_id = ${tenantId} and i.package = ${name} and i.id = p.install_id
    )`);
  }
  if (bars.length > 0) {
    parts.push(sql`, barred as (
      insert into release_bars (tenant_id, package, artifact_sha256, version, rule, reason, barred_by, barred_at)
      select ${tenantId}::uuid, ${name}, b.artifact_sha256, b.version, b.rule, b.reason, ${by}, ${at}::timestamptz
      from bumped, jsonb_to_recordset(${JSON.stringify(bars)}::jsonb)
        as b(artifact_sha256 text, version text, rule text, reason text)
      on conflict do nothing
    )`);
  }
  if (lifts.length > 0) {
    parts.push(sql`, lifted as (
      update release_bars b set lifted_by = ${by}, lifted_at = ${at}, lift_reason = l.reason
      from bumped, jsonb_to_recordset(${JSON.stringify(lifts)}::jsonb) as l(artifact_sha256 text, reason text)
      where b.tenant_id = ${tenantId} and b.package = ${name} and b.artifact_sha256 = l.artifact_sha256
        and b.lifted_at is null
    )`);
  }
  if (good.length > 0) {
    parts.push(sql`, good as (
      insert into good_releases (tenant_id, package, channel, release_id, changed_at)
      select ${tenantId}::uuid, ${name}, g.channel, g.release_id, ${at}::timestamptz
      from bumped, jsonb_to_recordset(${JSON.stringify(good)}::jsonb) as g(channel text, release_id text)
      on conflict (tenant_id, package, channel) do update
        set release_id = excluded.release_id, changed_at = excluded.changed_at
    )`);
  }
  return sql.join(parts, sql``);
}

const rolloutUpdates = (tenantId: string, { rollouts = [] }: PackageChange): SQL =>
  sql.join(
    rollouts
      .filter(({ is_new: isNew }) => !isNew)
      .map(
        ({ row }, at) => sql`, ${sql.raw(`rollout_${at}`)} as (
          update rollouts o set cohort_percent = ${row.cohort_percent}, state = ${row.state}, rule = ${row.rule},
            changed_at = ${row.changed_at}, ended_at = ${row.ended_at}, gate_since = ${row.gate_since},
            old_runs_per_block = ${row.old_runs_per_block}, expected_new_share_ppm = ${row.expected_new_share_ppm},
            expected_share_of = ${row.expected_share_of}, gate = ${row.gate === null ? null : JSON.stringify(row.gate)}::jsonb
          from bumped where o.tenant_id = ${tenantId} and o.id = ${row.id}
        )`,
      ),
    sql``,
  );

/**
 * A statement of its own, behind the one that ends the rollout before: a package has one that runs, and the parts of one
 * statement have no order. `guard` holds where that statement has changed something.
 */
const rolloutInserts = (tenantId: string, { rollouts = [] }: PackageChange, guard: SQL): SQL[] =>
  rollouts
    .filter(({ is_new: isNew }) => isNew)
    .map(
      ({ row }) => sql`insert into rollouts (tenant_id, id, package, channel, release_id, version, artifact_sha256,
          cohort_percent, state, rule, reason, started_by, started_at, changed_at, ended_at, gate_since,
          old_runs_per_block, expected_new_share_ppm, expected_share_of)
        select ${tenantId}::uuid, ${row.id}, ${row.package}, ${row.channel}, ${row.release_id}, ${row.version},
          ${row.artifact_sha256}, ${row.cohort_percent}::int, ${row.state}, ${row.rule}, ${row.reason}, ${row.started_by},
          ${row.started_at}::timestamptz, ${row.changed_at}::timestamptz, ${row.ended_at}::timestamptz,
          ${row.gate_since}::timestamptz, ${row.old_runs_per_block}::int, ${row.expected_new_share_ppm}::int,
          ${row.expected_share_of}
        where ${guard}`,
    );

const counted = (tenantId: string, { metrics = [] }: PackageChange): SQL =>
  sql.join(
    metrics.map(
      ({ labels, by }, at) =>
        sql`, ${sql.raw(`counted_${at}`)} as (${countMetric(tenantId, "mc_channel_upgrades_total", labels, by, sql`from bumped`)})`,
    ),
    sql``,
  );

/** Packages of the tenant that have a rollout running. */
export async function packagesRollingOut(database: Database, tenantId: string): Promise<string[]> {
  const [rows] = await asTenant(database, tenantId, [
    sql`select package from rollouts where tenant_id = ${tenantId} and state = 'running' order by package`,
  ]);
  return (rows ?? []).map((row) => String(row["package"]));
}

/** Keeps what the gate last said; nothing where the rollout does not run any more. */
export async function keepGateReport(
  database: Database,
  tenantId: string,
  rolloutId: string,
  report: GateReport,
): Promise<void> {
  await asTenant(database, tenantId, [
    sql`update rollouts set gate = ${JSON.stringify(report)}::jsonb
        where tenant_id = ${tenantId} and id = ${rolloutId} and state = 'running'`,
  ]);
}

/** Tenants with a rollout running, as the role maestro_drain: row security shows it these and nothing else of them. */
export async function tenantsRollingOut(database: Database): Promise<string[]> {
  const [rows] = await inBatch(database, [sql`select distinct tenant_id from rollouts where state = 'running'`]);
  return (rows ?? []).map((row) => String(row["tenant_id"]));
}
