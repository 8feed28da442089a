-- Authorities that two persons of a tenant had the product stop believing: never believed again in that tenant's trust domain of that
-- name, whatever its bundle says, also where the domain is taken back and stated anew. Rows are added, and never changed or removed.
create table distrusted_authorities (
  tenant_id uuid not null references tenants(id),
  -- No reference to trust_domains: the word outlives the row.
  trust_domain text not null check (trust_domain ~ '^[a-z0-9._-]{1,255}$'),
  slot text not null check (slot in ('x509', 'jwt')),
  -- Of an X.509 authority SHA-256 of its SubjectPublicKeyInfo, of a JWT key its RFC 7638 thumbprint.
  kid text not null check (kid ~ '^[0-9a-f]{64}$'),
  rotation_id text not null,
  distrusted_at timestamptz not null,
  primary key (tenant_id, trust_domain, slot, kid)
);

alter table distrusted_authorities enable row level security;
alter table distrusted_authorities force row level security;
create policy tenant_rows on distrusted_authorities to maestro_app using (tenant_id = app_tenant());
grant select, insert on distrusted_authorities to maestro_app;

alter table trust_domains
  -- How many rows of distrusted_authorities the bundle in force was held against: it is the document that came, without them. What comes
  -- is compared with this in its commit.
  add column distrusts integer not null default 0 check (distrusts >= 0);
