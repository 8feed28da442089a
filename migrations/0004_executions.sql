-- Runs. A row is made `running` and changes once, to how it ended.
create table executions (
  tenant_id uuid not null references tenants(id),
  id text not null check (id ~ '^exe_[0-9a-z]{26}$'),
  package text not null,
  version text not null,
  channel text not null check (channel in ('stable', 'canary')),
  release_id text not null references releases(id),
  release_sha256 text not null,
  input_sha256 text,
  units integer not null check (units >= 0),
  status text not null check (status in ('running', 'succeeded', 'failed', 'expired')),
  exit_code integer check (exit_code between 0 and 255),
  output_sha256 text,
  duration_ms bigint,
  principal_id text not null,
  entitlement_version bigint not null,
  started_at timestamptz not null,
  deadline_at timestamptz not null,
  finished_at timestamptz,
  primary key (tenant_id, id),
  check ((status = 'running') = (finished_at is null))
);
create index executions_newest on executions (tenant_id, started_at desc, id desc);
create index executions_overdue on executions (tenant_id, deadline_at) where status = 'running';

alter table executions enable row level security;
alter table executions force row level security;
create policy tenant_rows on executions to maestro_app using (tenant_id = app_tenant());
grant select, insert, update on executions to maestro_app;
