-- Edge policy: fetchers are principals of their own role, and the cron knows which tenants have a TUF repository.
alter table principals drop constraint principals_role_check;
alter table principals add constraint principals_role_check
  check (role in ('admin', 'operator', 'auditor', 'publisher', 'reviewer', 'viewer', 'fetcher'));

-- What a repository holds is in the tenant's PolicyPublisher object; a row here says that there is one, and when its object was
-- last looked after.
create table policy_repositories (
  tenant_id uuid primary key references tenants(id),
  created_at timestamptz not null,
  swept_at timestamptz
);
create index policy_repositories_by_sweep on policy_repositories (swept_at nulls first);
alter table policy_repositories enable row level security;
alter table policy_repositories force row level security;
create policy tenant_rows on policy_repositories to maestro_app using (tenant_id = app_tenant());
create policy all_rows on policy_repositories to maestro_drain using (true) with check (true);
grant select, insert on policy_repositories to maestro_app;
grant select, update (swept_at) on policy_repositories to maestro_drain;
