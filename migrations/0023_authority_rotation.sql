-- Rotations of a trust domain's authority: which domains had one, and by which authority the SVIDs of its workloads were signed when
-- they were seen.
alter table trust_domains
  -- When a rotation of its authority was started last; null: never.
  add column rotated_at timestamptz,
  -- SVIDs of the domain that were not noted since then are noted at the next request. The door reads it with the bundle's digest.
  add column watched_from timestamptz;

-- At most one row for each workload and authority, written again no sooner than minutes later.
create table workload_sightings (
  spiffe_id text not null references workloads (spiffe_id) on delete cascade,
  tenant_id uuid not null,
  slot text not null check (slot in ('x509', 'jwt')),
  -- Of an X.509 authority SHA-256 of its SubjectPublicKeyInfo, of a JWT key its RFC 7638 thumbprint.
  kid text not null check (kid ~ '^[0-9a-f]{64}$'),
  seen_at timestamptz not null,
  primary key (spiffe_id, slot, kid)
);

alter table workload_sightings enable row level security;
alter table workload_sightings force row level security;
create policy tenant_rows on workload_sightings to maestro_app using (tenant_id = app_tenant());
-- Who states a domain that tenants share waits for all workloads of it.
create policy all_rows on workload_sightings for select to maestro_auth using (true);
create policy all_tenants on policy_repositories for select to maestro_auth using (true);
grant select, insert, update (seen_at), delete on workload_sightings to maestro_app;
grant select on workload_sightings to maestro_auth;
grant select (tenant_id) on policy_repositories to maestro_auth;
