-- Entitlements: the plan's table to the letter; version and history in companion tables.
create table if not exists entitlements (
  tenant_id uuid not null references tenants(id),
  package text not null,
  channel text not null check (channel in ('stable','canary')) default 'stable',
  allowed boolean not null default true,
  primary key (tenant_id, package)
);

-- One number a tenant, compared and set with each change: the ETag of the whole set.
create table entitlement_versions (
  tenant_id uuid primary key references tenants(id),
  version bigint not null check (version >= 1),
  changed_at timestamptz not null
);

create table entitlement_history (
  tenant_id uuid not null references tenants(id),
  version bigint not null,
  package text not null,
  channel text not null,
  allowed boolean not null,
  principal_id text not null,
  reason text not null check (length(reason) <= 500),
  changed_at timestamptz not null,
  primary key (tenant_id, version, package)
);

alter table entitlements enable row level security;
alter table entitlements force row level security;
alter table entitlement_versions enable row level security;
alter table entitlement_versions force row level security;
alter table entitlement_history enable row level security;
alter table entitlement_history force row level security;
create policy tenant_rows on entitlements to maestro_app using (tenant_id = app_tenant());
create policy tenant_rows on entitlement_versions to maestro_app using (tenant_id = app_tenant());
create policy tenant_rows on entitlement_history to maestro_app using (tenant_id = app_tenant());
grant select, insert, update on entitlements to maestro_app;
grant select, insert, update on entitlement_versions to maestro_app;
grant select, insert on entitlement_history to maestro_app;
