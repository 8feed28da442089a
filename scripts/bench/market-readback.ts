// What became of the market benchmark's calls, by another path than they took: as PostgreSQL's owner.

import { setTimeout as sleep } from "node:timers/promises";
import { isLostConnection, withClient } from "../stack/connection.ts";
import type { Stack } from "../stack/index.ts";
import type { Figures } from "./benchmark.ts";
import type { Market } from "./market-world.ts";

/** A restart takes less. */
const reachMsMax = 20_000;

/** PostgreSQL may be restarted meanwhile: asked anew, over a connection of its own each time. */
async function rows(stack: Stack, text: string, values: readonly unknown[] = []): Promise<Record<string, unknown>[]> {
  const end = performance.now() + reachMsMax;
  for (;;) {
    try {
      return await withClient(
        stack.databaseUrls.owner,
        async (client) => (await client.query<Record<string, unknown>>(text, [...values])).rows,
      );
    } catch (error) {
      if (!isLostConnection(error) || performance.now() > end) throw error;
    }
    await sleep(100);
  }
}

/** `<tenant's number> <package>` → the version that is installed. */
export async function versionsOf(stack: Stack, { tenants }: Market): Promise<Map<string, string>> {
  const numbers = new Map(tenants.map(({ tenant_id: id }, at) => [id, at]));
  const found = await rows(stack, "select tenant_id, package, version from installs");
  return new Map(
    found.map((row) => [`${numbers.get(String(row["tenant_id"]))} ${String(row["package"])}`, String(row["version"])]),
  );
}

/**
 * Installs that are not wholly on one release: their row is not of one release, or the newest of their history, the state of
 * their package or its rollouts say another thing.
 */
export async function halfInstalled(stack: Stack): Promise<number> {
  const [row] = await rows(
    stack,
    `with newest as (
       select distinct on (tenant_id, install_id) tenant_id, install_id, release_id, version, artifact_sha256, channel, cause
       from install_history order by tenant_id, install_id, id desc
     )
     select count(*)::int as count
     from installs i
     left join releases r on r.id = i.release_id
     left join newest h on h.tenant_id = i.tenant_id and h.install_id = i.id
     left join package_states s on s.tenant_id = i.tenant_id and s.package = i.package
     left join rollouts o on o.tenant_id = i.tenant_id and o.package = i.package
     where (r.package, r.version, r.artifact_sha256, r.units) is distinct from (i.package, i.version, i.artifact_sha256, i.units)
        or (h.release_id, h.version, h.artifact_sha256, h.channel)
           is distinct from (i.release_id, i.version, i.artifact_sha256, i.channel)
        or s.version is null
        or (h.cause = 'upgrade' and (o.state, o.release_id) is distinct from ('completed', i.release_id))
        or (h.cause = 'rollback') is distinct from i.pinned`,
  );
  return Number(row!["count"]);
}

/** Waits until the log has told of every move; then counts what is missing and what is told twice. */
export async function eventCounts(
  stack: Stack,
  { tenants }: Market,
  upgraded: number,
  rolledBack: number,
  withinMs: number,
  signal: AbortSignal,
): Promise<Figures> {
  const end = performance.now() + withinMs;
  for (;;) {
    const [row] = await rows(
      stack,
      `select count(distinct event_id) filter (where outcome = 'upgraded')::int as upgraded,
         count(distinct event_id) filter (where outcome = 'rolled_back')::int as rolled_back,
         (count(*) - count(distinct event_id))::int as twice,
         (select count(*) from outbox)::int as waiting,
         (select count(*) from audit_events where type = 'mc.log.gap')::int as gaps
       from audit_events where type = 'mc.install.changed' and tenant_id = any($1::uuid[])`,
      [tenants.map(({ tenant_id: id }) => id)],
    );
    const lost =
      Math.max(0, upgraded - Number(row!["upgraded"])) + Math.max(0, rolledBack - Number(row!["rolled_back"]));
    if ((lost === 0 && Number(row!["waiting"]) === 0) || performance.now() > end) {
      return { events_lost: lost, events_duplicated: Number(row!["twice"]), log_gaps: Number(row!["gaps"]) };
    }
    await sleep(500, undefined, { signal });
  }
}
