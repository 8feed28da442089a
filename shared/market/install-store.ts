// The SQL that reads installs, their history, rollouts and bars. What changes them is package-state-store.ts.

import { sql } from "drizzle-orm";
import {
  installHistoryEntry,
  releaseBar,
  type Install,
  type InstallHistoryEntry,
  type ReleaseBar,
  type Rollout,
} from "../contract/http-installs.ts";
import { asTenant, type Database, type Row } from "../tenancy/database.ts";
import { installColumns, installOf, rolloutColumns, rolloutOf } from "./package-state-store.ts";

const iso = (value: unknown): string => new Date(String(value)).toISOString();

/** Up to `installsListed` of them, by package and name. */
export const installsListed = 10_000;

export async function listInstalls(database: Database, tenantId: string): Promise<Install[]> {
  const [rows] = await asTenant(database, tenantId, [
    sql`select ${installColumns} from installs i where i.tenant_id = ${tenantId}
        order by i.package, i.name limit ${installsListed}`,
  ]);
  return (rows ?? []).map(installOf);
}

/** One install of a package, the wall time that its release declares, and the rollout of the package that is running. */
export async function readInstall(
  database: Database,
  tenantId: string,
  packageName: string,
  name: string,
): Promise<{ install: Install; wall_ms: number; rollout_id: string | null } | null> {
  const [rows] = await asTenant(database, tenantId, [
    sql`select ${installColumns}, (r.manifest -> 'limits' ->> 'wall_ms')::int as wall_ms, o.id as rollout_id
        from installs i
        join releases r on r.id = i.release_id
        left join rollouts o on o.tenant_id = i.tenant_id and o.package = i.package and o.state = 'running'
        where i.tenant_id = ${tenantId} and i.package = ${packageName} and i.name = ${name}`,
  ]);
  if (rows?.[0] === undefined) return null;
  const { wall_ms: wallMs, rollout_id: rolloutId, ...row } = rows[0];
  return {
    install: installOf(row),
    wall_ms: Number(wallMs),
    rollout_id: typeof rolloutId === "string" ? rolloutId : null,
  };
}

/** Newest first, strictly before the entry with that number. */
export async function listInstallHistory(
  database: Database,
  tenantId: string,
  packageName: string,
  name: string | null,
  limit: number,
  before: number | null,
): Promise<{ readonly id: number; readonly entry: InstallHistoryEntry }[]> {
  const [rows] = await asTenant(database, tenantId, [
    sql`select h.id::float8 as entry_id, h.install_id, h.name, h.version, h.channel, h.artifact_sha256, f.version as from_version,
          h.cause, h.rollout_id, h.principal_id, h.changed_at
        from install_history h left join releases f on f.id = h.from_release_id
        where h.tenant_id = ${tenantId} and h.package = ${packageName}
          and ${name === null ? sql`true` : sql`h.name = ${name}`} and ${before === null ? sql`true` : sql`h.id < ${before}`}
        order by h.id desc limit ${limit}`,
  ]);
  return (rows ?? []).map(({ entry_id: id, ...row }) => ({
    id: Number(id),
    entry: installHistoryEntry.parse({ ...row, changed_at: iso(row["changed_at"]) }),
  }));
}

export async function listRollouts(
  database: Database,
  tenantId: string,
  packageName: string | null,
  limit: number,
  before: { readonly started_at: string; readonly id: string } | null,
): Promise<Rollout[]> {
  const [rows] = await asTenant(database, tenantId, [
    sql`select ${rolloutColumns} from rollouts o where o.tenant_id = ${tenantId}
          and ${packageName === null ? sql`true` : sql`o.package = ${packageName}`}
          and ${before === null ? sql`true` : sql`(o.started_at, o.id) < (${before.started_at}, ${before.id})`}
        order by o.started_at desc, o.id desc limit ${limit}`,
  ]);
  return (rows ?? []).map(rolloutOf);
}

export async function readRollout(database: Database, tenantId: string, id: string): Promise<Rollout | null> {
  const [rows] = await asTenant(database, tenantId, [
    sql`select ${rolloutColumns} from rollouts o where o.tenant_id = ${tenantId} and o.id = ${id}`,
  ]);
  return rows?.[0] === undefined ? null : rolloutOf(rows[0]);
}

/** Bars that stand, the newest first. */
export async function listBars(database: Database, tenantId: string, packageName: string): Promise<ReleaseBar[]> {
  const [rows] = await asTenant(database, tenantId, [
    sql`select package, version, artifact_sha256, rule, reason, barred_by, barred_at from release_bars
        where tenant_id = ${tenantId} and package = ${packageName} and lifted_at is null order by barred_at desc, version`,
  ]);
  return (rows ?? []).map((row: Row) => releaseBar.parse({ ...row, barred_at: iso(row["barred_at"]) }));
}

export async function readFreeze(
  database: Database,
  tenantId: string,
  packageName: string,
): Promise<{ readonly frozen: boolean; readonly frozen_reason: string | null }> {
  const [rows] = await asTenant(database, tenantId, [
    sql`select frozen, frozen_reason from package_states where tenant_id = ${tenantId} and package = ${packageName}`,
  ]);
  const row = rows?.[0];
  return {
    frozen: row?.["frozen"] === true,
    frozen_reason: typeof row?.["frozen_reason"] === "string" ? row["frozen_reason"] : null,
  };
}
