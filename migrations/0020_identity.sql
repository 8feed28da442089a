-- What is asked of trust domains without reading their bundles: when the first authority ends, and when an endpoint is due. And what
-- authentication asks of a fetcher's key: the tenant's flag that sends fetchers to SVIDs.
alter table trust_domains
  -- Seconds, as the bundle in force says it.
  add column refresh_hint_s bigint check (refresh_hint_s >= 0),
  -- Of the X.509 authority of the bundle in force that ends first; null where it has none.
  add column first_from_at timestamptz,
  add column first_until_at timestamptz,
  add check ((first_from_at is null) = (first_until_at is null));
grant select (endpoint_profile, refused_at, refresh_hint_s) on trust_domains to maestro_drain;

create policy spiffe_rows on tenant_flags for select to maestro_auth using (flag = 'spiffe_everywhere');
grant select (tenant_id, flag, enabled) on tenant_flags to maestro_auth;
