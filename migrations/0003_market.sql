-- Packages and releases are the marketplace's: every tenant may read them, the publishing tenant alone writes its own.
-- Installs are a tenant's.

create table publisher_keys (
  tenant_id uuid not null references tenants(id),
  key_id text not null check (key_id ~ '^[0-9a-f]{64}$'),
  spki text not null,
  created_at timestamptz not null,
  revoked_at timestamptz,
  primary key (tenant_id, key_id)
);

create table packages (
  name text primary key check (length(name) <= 128 and name ~ '^[a-z0-9]+([.-][a-z0-9]+)*(/[a-z0-9]+([.-][a-z0-9]+)*)*$'),
  publisher_tenant_id uuid not null references tenants(id),
  created_at timestamptz not null
);

create table releases (
  id text primary key check (id ~ '^rel_[0-9a-z]{26}$'),
  package text not null references packages(name),
  publisher_tenant_id uuid not null references tenants(id),
  version text not null,
  channel text not null check (channel in ('stable', 'canary')),
  artifact_sha256 text not null check (artifact_sha256 ~ '^[0-9a-f]{64}$'),
  artifact_bytes integer not null check (artifact_bytes between 1 and 67108864),
  units integer not null check (units >= 0),
  manifest jsonb not null,
  publisher_bundle jsonb not null,
  marketplace_bundle jsonb not null,
  publisher_spki text not null,
  published_at timestamptz not null,
  unique (package, version)
);

create table channel_pointers (
  package text not null references packages(name),
  channel text not null check (channel in ('stable', 'canary')),
  release_id text not null references releases(id),
  moved_at timestamptz not null,
  primary key (package, channel)
);

create table installs (
  tenant_id uuid not null references tenants(id),
  package text not null,
  id text not null check (id ~ '^ins_[0-9a-z]{26}$'),
  release_id text not null references releases(id),
  version text not null,
  channel text not null check (channel in ('stable', 'canary')),
  artifact_sha256 text not null,
  units integer not null,
  changed_at timestamptz not null,
  primary key (tenant_id, package)
);

create table install_history (
  tenant_id uuid not null references tenants(id),
  id bigint generated always as identity,
  package text not null,
  release_id text not null references releases(id),
  version text not null,
  channel text not null,
  artifact_sha256 text not null,
  principal_id text not null,
  changed_at timestamptz not null,
  primary key (tenant_id, id)
);

alter table publisher_keys enable row level security;
alter table publisher_keys force row level security;
alter table packages enable row level security;
alter table packages force row level security;
alter table releases enable row level security;
alter table releases force row level security;
alter table channel_pointers enable row level security;
alter table channel_pointers force row level security;
alter table installs enable row level security;
alter table installs force row level security;
alter table install_history enable row level security;
alter table install_history force row level security;

create policy tenant_rows on publisher_keys to maestro_app using (tenant_id = app_tenant());
create policy public_read on packages for select to maestro_app using (true);
create policy own_insert on packages for insert to maestro_app with check (publisher_tenant_id = app_tenant());
create policy public_read on releases for select to maestro_app using (true);
create policy own_insert on releases for insert to maestro_app with check (
  publisher_tenant_id = app_tenant()
  and exists (select from packages p where p.name = package and p.publisher_tenant_id = app_tenant())
);
create policy public_read on channel_pointers for select to maestro_app using (true);
create policy own_insert on channel_pointers for insert to maestro_app with check (
  exists (select from packages p where p.name = package and p.publisher_tenant_id = app_tenant())
);
create policy own_update on channel_pointers for update to maestro_app using (
  exists (select from packages p where p.name = package and p.publisher_tenant_id = app_tenant())
);
create policy tenant_rows on installs to maestro_app using (tenant_id = app_tenant());
create policy tenant_rows on install_history to maestro_app using (tenant_id = app_tenant());

grant select, insert on publisher_keys to maestro_app;
grant update (revoked_at) on publisher_keys to maestro_app;
grant select, insert on packages, releases to maestro_app;
grant select, insert, update on channel_pointers to maestro_app;
grant select, insert, update on installs to maestro_app;
grant select, insert on install_history to maestro_app;
