-- A tenant's side of the marketplace: constraints, reviewed changes and flags beside its entitlements; named installs,
-- staged rollouts, pins, bars and freezes.

-- What the plan's table has no columns for. No row: no constraint.
create table entitlement_constraints (
  tenant_id uuid not null,
  package text not null,
  version_range text check (length(version_range) between 1 and 256),
  run_windows jsonb,
  runs_per_day_max integer check (runs_per_day_max between 0 and 1000000),
  primary key (tenant_id, package),
  foreign key (tenant_id, package) references entitlements (tenant_id, package) on delete cascade
);

alter table entitlement_history
  add column version_range text,
  add column run_windows jsonb,
  add column runs_per_day_max integer,
  add column removed boolean not null default false,
  add column change_id text;

create table entitlement_changes (
  tenant_id uuid not null references tenants(id),
  id text not null check (id ~ '^chg_[0-9a-z]{26}$'),
  state text not null check (state in ('proposed', 'approved', 'rejected', 'applied', 'reverted')),
  entitlements jsonb not null,
  reason text not null check (length(reason) <= 500),
  proposed_by text not null,
  proposed_at timestamptz not null,
  decided_by text,
  decided_at timestamptz,
  -- The rows as they stood before it was applied: what a revert puts back. Null for a row that there was not.
  before jsonb,
  applied_by text,
  applied_at timestamptz,
  applied_version bigint,
  reverted_by text,
  reverted_at timestamptz,
  reverted_version bigint,
  primary key (tenant_id, id)
);
create index entitlement_changes_newest on entitlement_changes (tenant_id, proposed_at desc, id desc);

-- Runs admitted a UTC day, counted in the transaction that admits them.
create table run_counts (
  tenant_id uuid not null references tenants(id),
  package text not null,
  day date not null,
  runs integer not null check (runs >= 0),
  primary key (tenant_id, package, day)
);

-- No row: the flag is on.
create table tenant_flags (
  tenant_id uuid not null references tenants(id),
  flag text not null check (flag ~ '^[a-z0-9_]{1,64}$'),
  enabled boolean not null,
  principal_id text not null,
  changed_at timestamptz not null,
  primary key (tenant_id, flag)
);

-- Counters of the API, by tenant: added to in the transaction of what they count.
create table metric_counters (
  tenant_id uuid not null references tenants(id),
  metric text not null check (metric ~ '^mc_[a-z0-9_]+_total$'),
  -- Prometheus' label set without braces, names in order: `outcome="aborted",reason="health_gate"`.
  labels text not null check (length(labels) <= 500),
  value bigint not null check (value >= 0),
  primary key (tenant_id, metric, labels)
);

-- An install is one host's (or site's) copy of a package: a tenant has as many as it names.
alter table installs
  add column name text not null default 'default' check (length(name) <= 64 and name ~ '^[a-z0-9]+([.-][a-z0-9]+)*$'),
  add column pinned boolean not null default false,
  -- 0 to 9999, from the SHA-256 of the install's id: its place in every cohort.
  add column bucket integer check (bucket between 0 and 9999);
update installs set bucket = ('x' || left(encode(sha256(id::bytea), 'hex'), 8))::bit(32)::bigint % 10000;
alter table installs
  alter column name drop default,
  alter column bucket set not null,
  drop constraint installs_pkey,
  add primary key (tenant_id, package, name),
  add constraint installs_by_id unique (tenant_id, id);

alter table install_history
  add column install_id text,
  add column name text not null default 'default',
  add column from_release_id text references releases(id),
  add column cause text not null default 'install'
    check (cause in ('install', 'upgrade', 'last_good', 'rollback', 'health_gate')),
  add column rollout_id text;
alter table install_history alter column principal_id drop not null;
create index install_history_of_install on install_history (tenant_id, package, install_id, id desc);

-- One row a tenant's package: `version` is compared and set by every change of its installs, rollouts, pins, bars and freeze,
-- so that what was decided on is what is changed.
create table package_states (
  tenant_id uuid not null references tenants(id),
  package text not null,
  version bigint not null check (version >= 1),
  frozen boolean not null default false,
  frozen_reason text check (length(frozen_reason) <= 500),
  frozen_by text,
  frozen_at timestamptz,
  changed_at timestamptz not null,
  primary key (tenant_id, package)
);

-- The last good release of a channel, for this tenant: what installs outside a cohort get.
create table good_releases (
  tenant_id uuid not null references tenants(id),
  package text not null,
  channel text not null check (channel in ('stable', 'canary')),
  release_id text not null references releases(id),
  changed_at timestamptz not null,
  primary key (tenant_id, package, channel)
);

create table rollouts (
  tenant_id uuid not null references tenants(id),
  id text not null check (id ~ '^rol_[0-9a-z]{26}$'),
  package text not null,
  channel text not null check (channel in ('stable', 'canary')),
  release_id text not null references releases(id),
  version text not null,
  artifact_sha256 text not null,
  cohort_percent integer not null check (cohort_percent between 1 and 100),
  state text not null check (state in ('running', 'completed', 'aborted', 'superseded')),
  -- Why it ended: `cohort_complete`, `health_gate`, `rollback`, `superseded`.
  rule text,
  reason text not null check (length(reason) <= 500),
  started_by text not null,
  started_at timestamptz not null,
  changed_at timestamptz not null,
  ended_at timestamptz,
  -- The gate counts runs that started at or after this: a wider cohort is a new comparison.
  gate_since timestamptz not null,
  old_runs_per_block integer not null check (old_runs_per_block between 1 and 20),
  expected_new_share_ppm integer not null check (expected_new_share_ppm between 0 and 1000000),
  expected_share_of text not null check (expected_share_of in ('runs', 'installs')),
  -- The last verdict, as the gate wrote it.
  gate jsonb,
  primary key (tenant_id, id)
);
create unique index rollouts_one_running on rollouts (tenant_id, package) where state = 'running';
create index rollouts_newest on rollouts (tenant_id, package, started_at desc, id desc);

-- A digest that must not be installed again until a person lifts it. One open bar a digest.
create table release_bars (
  tenant_id uuid not null references tenants(id),
  package text not null,
  artifact_sha256 text not null,
  version text not null,
  rule text not null check (rule in ('health_gate', 'rollback', 'operator')),
  reason text not null check (length(reason) <= 500),
  barred_by text,
  barred_at timestamptz not null,
  lifted_by text,
  lifted_at timestamptz,
  lift_reason text check (length(lift_reason) <= 500),
  primary key (tenant_id, package, artifact_sha256, barred_at)
);
create unique index release_bars_open on release_bars (tenant_id, package, artifact_sha256) where lifted_at is null;

alter table executions
  add column install_id text,
  add column install_name text,
  -- The rollout that was running when the run started: its arm is the release that it runs.
  add column rollout_id text;
create index executions_of_rollout on executions (tenant_id, rollout_id, started_at) where rollout_id is not null;

do $$
declare name text;
begin
  foreach name in array array['entitlement_constraints', 'entitlement_changes', 'run_counts', 'tenant_flags',
    'metric_counters', 'package_states', 'good_releases', 'rollouts', 'release_bars'] loop
    execute format('alter table %I enable row level security', name);
    execute format('alter table %I force row level security', name);
    execute format('create policy tenant_rows on %I to maestro_app using (tenant_id = app_tenant())', name);
    execute format('grant select, insert, update on %I to maestro_app', name);
  end loop;
end $$;
-- Taking back an entitlement that there was not before a change.
grant delete on entitlements, entitlement_constraints to maestro_app;
-- The cron wakes the gates of tenants that have a rollout running, also where a nudge was lost.
create policy running_rows on rollouts for select to maestro_drain using (state = 'running');
grant select (tenant_id, state) on rollouts to maestro_drain;
