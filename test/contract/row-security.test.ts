// Row security, asked of the real Postgres as the workers' own roles: without a tenant nothing shows, with one only its
// rows, and no role owns or bypasses.

import { sql } from "drizzle-orm";
import { beforeAll, describe, expect, test } from "vitest";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import { asTenant, inBatch, type Database, type Row } from "../../shared/tenancy/database.ts";
import { databaseAs } from "../support/api.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
let tenant: SeededTenant;
let neighbour: SeededTenant;
let app: Database;
let owner: Database;

const one = async (database: Database, statement: ReturnType<typeof sql>): Promise<Row[]> =>
  (await inBatch(database, [statement]))[0] ?? [];

/** The column of each table that says whose a row is. A new table with tenants' rows fails the first test until it is here. */
const tenantColumns: Readonly<Record<string, string>> = {
  tenants: "id",
  principals: "tenant_id",
  principal_identities: "tenant_id",
  api_keys: "tenant_id",
  idempotency_keys: "tenant_id",
  outbox: "tenant_id",
  entitlements: "tenant_id",
  entitlement_versions: "tenant_id",
  entitlement_history: "tenant_id",
  publisher_keys: "tenant_id",
  installs: "tenant_id",
  install_history: "tenant_id",
  executions: "tenant_id",
  audit_events: "tenant_id",
  audit_index: "tenant_id",
  audit_hours: "tenant_id",
  audit_days: "tenant_id",
  audit_sealed: "tenant_id",
  entitlement_constraints: "tenant_id",
  entitlement_changes: "tenant_id",
  run_counts: "tenant_id",
  tenant_flags: "tenant_id",
  metric_counters: "tenant_id",
  package_states: "tenant_id",
  good_releases: "tenant_id",
  rollouts: "tenant_id",
  release_bars: "tenant_id",
  policy_repositories: "tenant_id",
  decision_inputs: "tenant_id",
  distrusted_authorities: "tenant_id",
  trust_domains: "tenant_id",
  workload_sightings: "tenant_id",
  workloads: "tenant_id",
};
/** The marketplace's own: every tenant reads them; the publishing tenant alone writes, release_keys those that curate. */
const publicTables = ["channel_history", "channel_pointers", "packages", "release_files", "release_keys", "releases"];
/** The audit worker's own notes: no other role has any right on them. */
const auditTables = ["audit_activity"];
/** Counted by the drain, read by the audit worker: no request's role has any right on them. */
const drainTables = ["outbox_counters"];
/** No worker's role has any right on these. */
const ownerTables = ["schema_migrations"];

const workerRoles = ["maestro_app", "maestro_auth", "maestro_drain", "maestro_audit"];
const appTables = Object.entries(tenantColumns);

beforeAll(async () => {
  tenant = await stack.seedTenant("rows-a", { curates: false });
  neighbour = await stack.seedTenant("rows-b");
  app = databaseAs(stack, "app");
  owner = databaseAs(stack, "owner");
  for (const { tenant_id, principals } of [tenant, neighbour]) await fill(tenant_id, principals.admin);
});

/** A row of the tenant in every table that seeding leaves empty. */
async function fill(tenantId: string, principal: string): Promise<void> {
  const [release] = await one(owner, sql`select id from releases where id = ${releaseOf(tenantId)}`);
  if (release !== undefined) return;
  const digest = "0".repeat(64);
  const name = `rows/${tenantId}`;
  await inBatch(owner, [
    sql`insert into idempotency_keys values (${tenantId}, ${principal}, 'POST /x', 'k', ${digest}, 200, '{}', now(), now() + interval '1 day')`,
    sql`insert into policy_repositories values (${tenantId}, now(), null)`,
    sql`insert into entitlements values (${tenantId}, ${name}, 'stable', true)`,
    sql`insert into entitlement_versions values (${tenantId}, 1, now())`,
    sql`insert into entitlement_history values (${tenantId}, 1, ${name}, 'stable', true, ${principal}, '', now())`,
    sql`insert into publisher_keys values (${tenantId}, ${digest}, '', now(), null)`,
    sql`insert into packages values (${name}, ${tenantId}, now())`,
    releaseInsert(releaseOf(tenantId), name, tenantId),
    sql`insert into channel_pointers values (${name}, 'stable', ${releaseOf(tenantId)}, now())`,
    sql`insert into installs (tenant_id, package, id, release_id, version, channel, artifact_sha256, units, changed_at, name, bucket)
        values (${tenantId}, ${name}, ${`ins_${"0".repeat(26)}`}, ${releaseOf(tenantId)}, '1.0.0', 'stable', ${digest}, 0, now(), 'default', 0)`,
    sql`insert into entitlement_constraints values (${tenantId}, ${name}, '1.x', null, null)`,
    sql`insert into entitlement_changes (tenant_id, id, state, entitlements, reason, proposed_by, proposed_at)
        values (${tenantId}, ${`chg_${"0".repeat(26)}`}, 'proposed', '[]', '', ${principal}, now())`,
    sql`insert into run_counts values (${tenantId}, ${name}, current_date, 1)`,
    sql`insert into tenant_flags values (${tenantId}, 'market_channels', true, ${principal}, now())`,
    sql`insert into metric_counters values (${tenantId}, 'mc_entitlement_denies_total', '', 1)`,
    sql`insert into package_states (tenant_id, package, version, changed_at) values (${tenantId}, ${name}, 1, now())`,
    sql`insert into good_releases values (${tenantId}, ${name}, 'stable', ${releaseOf(tenantId)}, now())`,
    sql`insert into rollouts (tenant_id, id, package, channel, release_id, version, artifact_sha256, cohort_percent, state, rule,
          reason, started_by, started_at, changed_at, ended_at, gate_since, old_runs_per_block, expected_new_share_ppm,
          expected_share_of)
        values (${tenantId}, ${`rol_${"0".repeat(26)}`}, ${name}, 'stable', ${releaseOf(tenantId)}, '1.0.0', ${digest}, 100,
          'completed', null, '', ${principal}, now(), now(), now(), now(), 1, 0, 'installs')`,
    sql`insert into release_bars (tenant_id, package, artifact_sha256, version, rule, reason, barred_at)
        values (${tenantId}, ${name}, ${digest}, '1.0.0', 'operator', '', now())`,
    sql`insert into install_history (tenant_id, package, release_id, version, channel, artifact_sha256, principal_id, changed_at)
        values (${tenantId}, ${name}, ${releaseOf(tenantId)}, '1.0.0', 'stable', ${digest}, ${principal}, now())`,
    sql`insert into executions (tenant_id, id, package, version, channel, release_id, release_sha256, units, status, principal_id,
          entitlement_version, started_at, deadline_at, finished_at)
        values (${tenantId}, ${`exe_${"0".repeat(26)}`}, ${name}, '1.0.0', 'stable', ${releaseOf(tenantId)}, ${digest}, 0, 'failed',
          ${principal}, 1, now(), now(), now())`,
    sql`insert into audit_events (tenant_id, seq, logged_at, occurred_at, event_id, type, source, attrs)
        values (${tenantId}, 999999999, now(), now(), 'evt', 'mc.key.created', 'api', '{}')`,
    // The tenant's own log may have written one before.
    sql`insert into audit_index values (${tenantId}, 1, now()) on conflict do nothing`,
    sql`insert into audit_hours values (${tenantId}, true, 'mc.key.created', '2020-01-01Z', null, null, 1, array_fill(0, array[12]))`,
    sql`insert into audit_days values (${tenantId}, true, 'mc.key.created', '2020-01-01Z', null, null, 1, array_fill(0, array[24]))`,
    sql`insert into decision_inputs values (${tenantId}, 'evt', now(), '{}')`,
    sql`insert into audit_sealed values (${tenantId}, 0, '2020-01-02Z', '2020-01-02Z') on conflict do nothing`,
    sql`insert into trust_domains (name, tenant_id, created_at, created_by) values (${tenantId}, ${tenantId}, now(), ${principal})`,
    sql`insert into workloads values (${`spiffe://${tenantId}/x`}, ${tenantId}, ${tenantId}, ${principal}, now(), ${principal})`,
    sql`insert into distrusted_authorities values (${tenantId}, ${tenantId}, 'jwt', ${digest}, '', now())`,
    sql`insert into workload_sightings values (${`spiffe://${tenantId}/x`}, ${tenantId}, 'jwt', ${digest}, now())`,
  ]);
}

const releaseInsert = (id: string, name: string, publisher: string) =>
  sql`insert into releases (id, package, publisher_tenant_id, version, channel, state, artifact_sha256, artifact_bytes, units,
        manifest, publisher_bundle, marketplace_bundle, publisher_spki, uploaded_at, published_at)
      values (${id}, ${name}, ${publisher}, '1.0.0', 'stable', 'published', ${"0".repeat(64)}, 1, 0, '{}', '{}', '{}', '',
        now(), now())`;
const releaseOf = (tenantId: string): string => `rel_${tenantId.replaceAll("-", "").slice(0, 26)}`;

test("every table is known here, so that none comes without a thought of whose its rows are", async () => {
  const rows = await one(owner, sql`select tablename as name from pg_tables where schemaname = 'public' order by 1`);
  const known = [...Object.keys(tenantColumns), ...publicTables, ...auditTables, ...drainTables, ...ownerTables].sort();
  expect(rows.map((row) => row["name"])).toEqual(known);
});

test("a tenant that does not curate adds no release key, and ends or countersigns nothing", async () => {
  const kid = "0".repeat(64);
  const add = sql`insert into release_keys (kid, spki, not_before, rotation_id, changed_at) values (${kid}, '', now(), '', now())`;
  await expect(asTenant(app, tenant.tenant_id, [add])).rejects.toMatchObject({ code: "42501" });
  await inBatch(owner, [add]);
  const change = [
    sql`update release_keys set revoked_at = now() returning kid`,
    sql`update releases set marketplace_bundle = '{}' where publisher_tenant_id <> ${tenant.tenant_id} returning id`,
  ];
  expect(await asTenant(app, tenant.tenant_id, change)).toEqual([[], []]);
  await inBatch(owner, [sql`delete from release_keys where kid = ${kid}`]);
});

test("row security is enabled and forced on every table that a worker may touch", async () => {
  const rows = await one(
    owner,
    sql`select relname as name from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')
        and not (relrowsecurity and relforcerowsecurity) order by 1`,
  );
  expect(rows.map((row) => row["name"])).toEqual(ownerTables);
  const granted = await one(
    owner,
    sql`select distinct table_name as name from information_schema.role_table_grants
        where grantee in ${workerRoles} and table_schema = 'public' and table_name in ${ownerTables}`,
  );
  expect(granted).toEqual([]);
  const others = workerRoles.filter((role) => role !== "maestro_audit");
  const grantedOthers = await one(
    owner,
    sql`select distinct table_name as name from information_schema.role_table_grants
        where grantee in ${others} and table_schema = 'public' and table_name in ${auditTables}`,
  );
  expect(grantedOthers).toEqual([]);
  const onCounters = await one(
    owner,
    sql`select grantee, privilege_type as right from information_schema.role_table_grants
        where grantee in ${workerRoles} and table_schema = 'public' and table_name in ${drainTables} order by 1, 2`,
  );
  expect(onCounters).toEqual([
    { grantee: "maestro_audit", right: "SELECT" },
    ...["INSERT", "SELECT", "UPDATE"].map((right) => ({ grantee: "maestro_drain", right })),
  ]);
});

describe.each(workerRoles)("%s", (name) => {
  test("owns nothing, bypasses nothing, and is a member of nothing", async () => {
    const [role] = await one(
      owner,
      sql`select rolsuper, rolbypassrls, rolcreatedb, rolcreaterole, rolreplication, rolinherit,
            (select count(*)::int from pg_class where relowner = r.oid) as owned,
            (select count(*)::int from pg_proc where proowner = r.oid) as functions,
            (select count(*)::int from pg_auth_members where member = r.oid) as memberships
          from pg_roles r where rolname = ${name}`,
    );
    expect(role).toEqual({
      rolsuper: false,
      rolbypassrls: false,
      rolcreatedb: false,
      rolcreaterole: false,
      rolreplication: false,
      rolinherit: false,
      owned: 0,
      functions: 0,
      memberships: 0,
    });
  });

  test("cannot become another role, nor switch row security off", async () => {
    const database = databaseAs(stack, name.replace("maestro_", "") as "app");
    expect((await one(database, sql`select current_user as me`))[0]).toEqual({ me: name });
    const [table] = await one(owner, sql`select tableowner as name from pg_tables where tablename = 'tenants'`);
    await expect(one(database, sql.raw(`set role ${String(table?.["name"])}`))).rejects.toMatchObject({
      code: "42501",
    });
    // `row_security = off` makes a query fail where a policy would filter, instead of passing it by.
    await expect(
      inBatch(database, [sql`set local row_security = off`, sql`select 1 from tenants`]),
    ).rejects.toMatchObject({ code: "42501" });
    await expect(one(database, sql`alter table outbox disable row level security`)).rejects.toMatchObject({
      code: "42501",
    });
    await expect(one(database, sql`create table public.mine (id int)`)).rejects.toMatchObject({ code: "42501" });
  });
});

describe.each(appTables)("%s, as maestro_app", (table, column) => {
  // Trust domains that tenants share are every tenant's to see.
  const rows = table === "trust_domains" ? `${table} where not shared` : table;
  const tenantsSeen = sql.raw(`select distinct ${column} as tenant_id from ${rows}`);

  test("shows nothing without the setting, and nothing with an empty one", async () => {
    expect(await one(app, tenantsSeen)).toEqual([]);
    const [, rows] = await inBatch(app, [sql`select set_config('app.tenant', '', true)`, tenantsSeen]);
    expect(rows).toEqual([]);
  });

  test("shows a tenant its own rows and nothing of another", async () => {
    const seen = async (tenantId: string): Promise<unknown[]> =>
      ((await asTenant(app, tenantId, [tenantsSeen]))[0] ?? []).map((row) => row["tenant_id"]);
    // Rows wait in the outbox for a moment only.
    const own = (tenantId: string): unknown[] => (table === "outbox" ? [] : [tenantId]);
    expect(await seen(tenant.tenant_id)).toEqual(expect.arrayContaining(own(tenant.tenant_id)));
    expect(await seen(tenant.tenant_id)).not.toContain(neighbour.tenant_id);
    expect(await seen(neighbour.tenant_id)).not.toContain(tenant.tenant_id);
    expect(await seen("00000000-0000-4000-8000-000000000000")).toEqual([]);
  });
});

test("the setting ends with its transaction: the next one on the connection sees nothing", async () => {
  await asTenant(app, tenant.tenant_id, [sql`select 1`]);
  expect(await one(app, sql`select id from principals`)).toEqual([]);
});

test("a tenant cannot write a row into another's name", async () => {
  const foreign: [string, ReturnType<typeof sql>][] = [
    [
      "principals",
      sql`insert into principals values ('pri_00000000000000000000000009', ${neighbour.tenant_id}, 'service', 'admin', now(), null)`,
    ],
    [
      "outbox",
      sql`insert into outbox (shard, tenant_id, event_id, body) values (0, ${neighbour.tenant_id}, ${`evt_${"0".repeat(26)}`}, '{}')`,
    ],
    ["entitlements", sql`insert into entitlements values (${neighbour.tenant_id}, 'rows/x', 'stable', true)`],
    ["packages", sql`insert into packages values ('rows/x', ${neighbour.tenant_id}, now())`],
    [
      "channel_pointers",
      sql`insert into channel_pointers values (${`rows/${neighbour.tenant_id}`}, 'canary', ${releaseOf(neighbour.tenant_id)}, now())`,
    ],
    [
      "trust_domains",
      sql`insert into trust_domains (name, tenant_id, created_at, created_by) values ('rows.x', ${neighbour.tenant_id}, now(), 'x')`,
    ],
    [
      "a trust domain shared by a tenant that does not curate",
      sql`insert into trust_domains (name, tenant_id, shared, created_at, created_by) values ('rows.x', ${tenant.tenant_id}, true, now(), 'x')`,
    ],
    [
      "workloads",
      sql`insert into workloads values (${`spiffe://${neighbour.tenant_id}/y`}, ${neighbour.tenant_id}, ${neighbour.tenant_id}, ${neighbour.principals.admin}, now(), 'x')`,
    ],
    ["releases", releaseInsert(`rel_${"1".repeat(26)}`, `rows/${neighbour.tenant_id}`, tenant.tenant_id)],
  ];
  for (const [table, statement] of foreign) {
    const refused = await asTenant(app, tenant.tenant_id, [statement]).then(
      () => null,
      (error: { code?: string }) => error.code ?? error,
    );
    // 42501: new row violates row-level security policy.
    expect([table, refused]).toEqual([table, "42501"]);
  }
});

test("a release that is not published shows to its publisher, to reviewers while they review it, and to nobody else", async () => {
  const outsider = await stack.seedTenant("rows-outsider", { curates: false });
  const name = `rows/${tenant.tenant_id}`;
  const states = ["draft", "in_review", "rejected", "published"] as const;
  const idOf = (state: string): string =>
    `rel_${tenant.tenant_id.replaceAll("-", "").slice(0, 16)}${state
      .replaceAll(/[^a-z]/g, "")
      .replaceAll(/[iluo]/g, "0")
      .slice(0, 10)
      .padEnd(10, "0")}`;
  await inBatch(
    owner,
    states.flatMap((state, at) => [
      sql`insert into releases (id, package, publisher_tenant_id, version, channel, state, artifact_sha256, artifact_bytes, units,
            manifest, publisher_bundle, marketplace_bundle, publisher_spki, uploaded_at, submitted_at, published_at)
          values (${idOf(state)}, ${name}, ${tenant.tenant_id}, ${`2.0.${at}`}, 'stable', ${state}, ${"1".repeat(64)}, 1, 0, '{}',
            '{}', ${state === "published" ? "{}" : null}::jsonb, '', now(), now(), ${state === "published" ? sql`now()` : null})
          on conflict do nothing`,
      sql`insert into release_files values (${idOf(state)}, '[]', 0) on conflict do nothing`,
    ]),
  );
  const seenBy = async (tenantId: string): Promise<unknown[]> => {
    const [releases, files] = await asTenant(app, tenantId, [
      sql`select state from releases where package = ${name} and version like '2.%' order by version`,
      sql`select r.state from release_files f join releases r on r.id = f.release_id where r.package = ${name}
          order by r.version`,
    ]);
    expect(files).toEqual(releases);
    return (releases ?? []).map((row) => row["state"]);
  };
  expect(await seenBy(tenant.tenant_id)).toEqual(states);
  // The neighbour curates.
  expect(await seenBy(neighbour.tenant_id)).toEqual(["in_review", "rejected", "published"]);
  expect(await seenBy(outsider.tenant_id)).toEqual(["published"]);
  const changed = await asTenant(app, outsider.tenant_id, [
    sql`update releases set state = 'rejected' where package = ${name} returning id`,
  ]);
  expect(changed).toEqual([[]]);
  // A publisher that does not curate publishes nothing by itself, whatever its worker says.
  const own = await asTenant(app, tenant.tenant_id, [
    sql`update releases set state = 'published', marketplace_bundle = '{}', published_at = now()
        where id = ${idOf("draft")} returning id`,
  ]).then(
    () => null,
    (error: { code?: string }) => error.code ?? error,
  );
  expect(own).toBe("42501");
  // Other files' reviewers read the same queue, and these rows are no whole releases.
  await inBatch(owner, [
    sql`delete from release_files where release_id in ${states.map(idOf)}`,
    sql`delete from releases where id in ${states.map(idOf)}`,
  ]);
});

test("a tenant cannot change or remove another's rows: they are not there for it", async () => {
  const changed = await asTenant(app, tenant.tenant_id, [
    sql`update api_keys set revoked_at = now() where tenant_id = ${neighbour.tenant_id} returning id`,
    sql`update entitlements set allowed = false where tenant_id = ${neighbour.tenant_id} returning package`,
    sql`update channel_pointers set moved_at = now() where package = ${`rows/${neighbour.tenant_id}`} returning package`,
    sql`delete from idempotency_keys where tenant_id = ${neighbour.tenant_id} returning key`,
  ]);
  expect(changed).toEqual([[], [], [], []]);
});
