-- Tenants, principals, API keys, idempotency and the outbox; the roles; row security.
-- The migrator owns everything. No worker connects as the owner: each connects as one of the four roles below, none of
-- which owns a table or bypasses row security. Passwords are set by the operator (locally: by `npm start`), never here.

do $$
declare name text;
begin
  foreach name in array array['maestro_app', 'maestro_auth', 'maestro_drain', 'maestro_audit'] loop
    if not exists (select from pg_roles where rolname = name) then
      execute format('create role %I nologin noinherit nosuperuser nobypassrls nocreatedb nocreaterole', name);
    end if;
    execute format('grant usage on schema public to %I', name);
  end loop;
end $$;

alter role maestro_app set statement_timeout = '5s';
alter role maestro_auth set statement_timeout = '2s';
alter role maestro_drain set statement_timeout = '10s';
alter role maestro_audit set statement_timeout = '20s';

-- The tenant that this transaction speaks for; null (so: no rows) where nothing was set.
create function app_tenant() returns uuid
  language sql stable parallel safe
  return nullif(current_setting('app.tenant', true), '')::uuid;

create table tenants (
  id uuid primary key,
  slug text not null unique check (slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$'),
  created_at timestamptz not null
);

create table principals (
  id text primary key check (id ~ '^pri_[0-9a-z]{26}$'),
  tenant_id uuid not null references tenants(id),
  kind text not null check (kind in ('person', 'service')),
  role text not null check (role in ('admin', 'operator', 'auditor', 'publisher', 'viewer')),
  created_at timestamptz not null,
  disabled_at timestamptz,
  unique (tenant_id, id)
);

-- What ties a pseudonymous principal to an outside identity. Erasing a person deletes this row; every proof still holds.
create table principal_identities (
  issuer text not null,
  subject text not null,
  tenant_id uuid not null,
  principal_id text not null,
  created_at timestamptz not null,
  primary key (issuer, subject),
  foreign key (tenant_id, principal_id) references principals (tenant_id, id)
);

-- `secret_sha256` is the SHA-256 of a key with 160 random bits: there is nothing to guess, so no slow hash is needed.
create table api_keys (
  id text primary key check (id ~ '^key_[0-9a-z]{26}$'),
  tenant_id uuid not null,
  principal_id text not null,
  prefix text not null,
  secret_sha256 text not null unique check (secret_sha256 ~ '^[0-9a-f]{64}$'),
  created_at timestamptz not null,
  expires_at timestamptz,
  last_used_at timestamptz,
  revoked_at timestamptz,
  foreign key (tenant_id, principal_id) references principals (tenant_id, id)
);
create index api_keys_by_tenant on api_keys (tenant_id, created_at desc, id desc);

create table idempotency_keys (
  tenant_id uuid not null references tenants(id),
  principal_id text not null,
  route text not null,
  key text not null check (length(key) between 1 and 255),
  body_sha256 text not null check (body_sha256 ~ '^[0-9a-f]{64}$'),
  status integer not null,
  response jsonb not null,
  created_at timestamptz not null,
  expires_at timestamptz not null,
  primary key (tenant_id, principal_id, route, key)
);
create index idempotency_keys_by_expiry on idempotency_keys (expires_at);

-- One row an audit event, written in the transaction of the change that it tells of; deleted once the queue has it.
create table outbox (
  id bigint generated always as identity primary key,
  shard integer not null check (shard >= 0),
  tenant_id uuid not null references tenants(id),
  event_id text not null unique check (event_id ~ '^evt_[0-9a-z]{26}$'),
  body text not null check (octet_length(body) <= 49152),
  created_at timestamptz not null default now()
);
create index outbox_by_shard on outbox (shard, id);

alter table tenants enable row level security;
alter table tenants force row level security;
alter table principals enable row level security;
alter table principals force row level security;
alter table principal_identities enable row level security;
alter table principal_identities force row level security;
alter table api_keys enable row level security;
alter table api_keys force row level security;
alter table idempotency_keys enable row level security;
alter table idempotency_keys force row level security;
alter table outbox enable row level security;
alter table outbox force row level security;

create policy tenant_rows on tenants to maestro_app using (id = app_tenant());
create policy tenant_rows on principals to maestro_app using (tenant_id = app_tenant());
create policy tenant_rows on principal_identities to maestro_app using (tenant_id = app_tenant());
create policy tenant_rows on api_keys to maestro_app using (tenant_id = app_tenant());
create policy tenant_rows on idempotency_keys to maestro_app using (tenant_id = app_tenant());
create policy tenant_rows on outbox to maestro_app using (tenant_id = app_tenant());
create policy all_rows on tenants for select to maestro_auth using (true);
create policy all_rows on principals for select to maestro_auth using (true);
create policy all_rows on principal_identities for select to maestro_auth using (true);
create policy all_rows on api_keys for select to maestro_auth using (true);
create policy last_use on api_keys for update to maestro_auth using (true) with check (true);
create policy all_rows on outbox to maestro_drain using (true);
-- The cron forgets answers whose window has passed; row security lets it see no others.
create policy expired_rows on idempotency_keys to maestro_drain using (expires_at < now());

grant select on tenants, principals, principal_identities to maestro_app;
grant select, insert on api_keys to maestro_app;
grant update (revoked_at) on api_keys to maestro_app;
grant insert on principals to maestro_app;
grant select, insert, delete on idempotency_keys to maestro_app;
grant insert, select on outbox to maestro_app;
grant select on tenants, principals, principal_identities, api_keys to maestro_auth;
grant update (last_used_at) on api_keys to maestro_auth;
grant select, delete on outbox to maestro_drain;
grant select (tenant_id, principal_id, route, key, expires_at), delete on idempotency_keys to maestro_drain;
