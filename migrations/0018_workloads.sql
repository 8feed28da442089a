-- Workload identities: the trust domains that tenants' workloads come from, each with the bundle that its SVIDs are verified
-- with, and which SPIFFE ID is which principal. A change of a bundle counts from the commit on: whoever verifies an SVID reads
-- the digest of the bundle in the same query as the principal.
create table trust_domains (
  name text primary key check (name ~ '^[a-z0-9._-]{1,255}$'),
  -- Who states the domain's bundle or its endpoint.
  tenant_id uuid not null references tenants(id),
  -- Other tenants may register SPIFFE IDs of it, each below /tenant/<its slug>/. Tenants that curate alone share a domain.
  shared boolean not null default false,
  -- SPIFFE Federation 5.1; null where the bundle is handed in.
  endpoint_url text check (length(endpoint_url) <= 2000),
  endpoint_profile text check (endpoint_profile in ('https_web', 'https_spiffe')),
  endpoint_server_id text check (length(endpoint_server_id) <= 2048),
  -- The last good document, to the byte, and what it says of itself. Null: nothing of this domain is believed yet.
  bundle text check (octet_length(bundle) <= 524288),
  bundle_sha256 text check (bundle_sha256 ~ '^[0-9a-f]{64}$'),
  -- The highest sequence that a good document had: it never falls, also where the bundle in force has none.
  sequence_max bigint,
  sequence_max_sha256 text check (sequence_max_sha256 ~ '^[0-9a-f]{64}$'),
  -- When a good document came last, also where it was the one that is held.
  confirmed_at timestamptz,
  -- Why the last attempt brought nothing, and when; null after one that did.
  refused_reason text check (length(refused_reason) <= 500),
  refused_at timestamptz,
  created_at timestamptz not null,
  created_by text not null,
  check ((endpoint_url is null) = (endpoint_profile is null)),
  check ((endpoint_profile is not distinct from 'https_spiffe') = (endpoint_server_id is not null)),
  check ((bundle is null) = (bundle_sha256 is null)),
  check ((sequence_max is null) = (sequence_max_sha256 is null))
);
create index trust_domains_by_tenant on trust_domains (tenant_id, name);

create table workloads (
  spiffe_id text primary key check (length(spiffe_id) <= 2048),
  trust_domain text not null references trust_domains(name),
  tenant_id uuid not null,
  principal_id text not null,
  created_at timestamptz not null,
  created_by text not null,
  foreign key (tenant_id, principal_id) references principals (tenant_id, id),
  check (starts_with(spiffe_id, 'spiffe://' || trust_domain || '/'))
);
create index workloads_by_tenant on workloads (tenant_id, spiffe_id);
create index workloads_by_domain on workloads (trust_domain);

alter table trust_domains enable row level security;
alter table trust_domains force row level security;
alter table workloads enable row level security;
alter table workloads force row level security;

create policy own_and_shared_rows on trust_domains for select to maestro_app
  using (tenant_id = app_tenant() or (shared and app_tenant() is not null));
create policy new_rows on trust_domains for insert to maestro_app
  with check (tenant_id = app_tenant() and (not shared or app_curates()));
create policy own_rows on trust_domains for update to maestro_app using (tenant_id = app_tenant())
  with check (tenant_id = app_tenant() and (not shared or app_curates()));
create policy old_rows on trust_domains for delete to maestro_app using (tenant_id = app_tenant());
create policy tenant_rows on workloads to maestro_app using (tenant_id = app_tenant());
create policy all_rows on trust_domains for select to maestro_auth using (true);
create policy all_rows on workloads for select to maestro_auth using (true);
-- The cron looks which endpoints are due.
create policy rows_to_refresh on trust_domains for select to maestro_drain using (true);

grant select, insert, update, delete on trust_domains to maestro_app;
grant select, insert, delete on workloads to maestro_app;
grant select on trust_domains, workloads to maestro_auth;
grant select (name, tenant_id, endpoint_url, confirmed_at) on trust_domains to maestro_drain;
