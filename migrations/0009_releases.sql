-- Releases get a life: draft, in review, published, yanked. Channel pointers are signed and counted, the principals of
-- tenants that curate the marketplace review what others submit.
alter table principals drop constraint principals_role_check;
alter table principals add constraint principals_role_check
  check (role in ('admin', 'operator', 'auditor', 'publisher', 'reviewer', 'viewer'));

alter table tenants add column curates boolean not null default false;
-- True where the tenant that this transaction speaks for curates the marketplace.
create function app_curates() returns boolean
  language sql stable parallel safe
  return exists (select from tenants where id = app_tenant() and curates);

alter table packages add column description text not null default '' check (length(description) <= 500);

alter table releases
  add column state text not null default 'published'
    check (state in ('draft', 'in_review', 'published', 'rejected', 'yanked')),
  add column uploaded_by text,
  add column uploaded_at timestamptz,
  add column submitted_at timestamptz,
  add column reviewed_by text,
  add column reviewed_at timestamptz,
  add column review_reason text check (length(review_reason) <= 500),
  add column yanked_by text,
  add column yanked_at timestamptz,
  add column yank_reason text check (length(yank_reason) <= 500);
update releases set uploaded_at = published_at;
alter table releases
  alter column state drop default,
  alter column uploaded_at set not null,
  alter column marketplace_bundle drop not null,
  alter column published_at drop not null,
  add constraint releases_published_are_countersigned
    check ((state in ('published', 'yanked')) = (marketplace_bundle is not null and published_at is not null));
-- A rejected release leaves its version free; under every other state a version is one artifact for ever.
alter table releases drop constraint releases_package_version_key;
create unique index releases_one_version on releases (package, version) where state <> 'rejected';
create index releases_in_review on releases (submitted_at, id) where state = 'in_review';

-- What is in a release's artifact, file by file: for reviewers.
create table release_files (
  release_id text primary key references releases(id),
  files jsonb not null,
  unpacked_bytes bigint not null check (unpacked_bytes >= 0)
);

-- `sequence` counts a channel's moves; `bundle` is the marketplace's statement of the newest. A pointer that was never
-- signed (from before this migration) is not followed until it is moved.
alter table channel_pointers
  add column sequence bigint not null default 1 check (sequence >= 1),
  add column bundle jsonb;

create table channel_history (
  package text not null references packages(name),
  channel text not null check (channel in ('stable', 'canary')),
  sequence bigint not null check (sequence >= 1),
  release_id text not null references releases(id),
  bundle jsonb not null,
  moved_by text not null,
  moved_at timestamptz not null,
  primary key (package, channel, sequence)
);

alter table release_files enable row level security;
alter table release_files force row level security;
alter table channel_history enable row level security;
alter table channel_history force row level security;

-- What is published (or was) is everyone's to read; before that it is its publisher's, and the reviewers' once submitted.
drop policy public_read on releases;
create policy visible_read on releases for select to maestro_app using (
  state in ('published', 'yanked')
  or publisher_tenant_id = app_tenant()
  or (state in ('in_review', 'rejected') and app_curates())
);
-- A publisher uploads, submits and yanks; what makes a release published is a curator's review, and nothing else.
drop policy own_insert on releases;
create policy own_insert on releases for insert to maestro_app with check (
  publisher_tenant_id = app_tenant()
  and state in ('draft', 'in_review')
  and exists (select from packages p where p.name = package and p.publisher_tenant_id = app_tenant())
);
create policy own_update on releases for update to maestro_app
  using (publisher_tenant_id = app_tenant() and state in ('draft', 'published'))
  with check (publisher_tenant_id = app_tenant() and state in ('in_review', 'yanked'));
create policy review_update on releases for update to maestro_app
  using (state = 'in_review' and app_curates()) with check (state in ('published', 'rejected') and app_curates());
create policy own_update on packages for update to maestro_app using (publisher_tenant_id = app_tenant());
-- Row security of `releases` decides whose files these are.
create policy visible_read on release_files for select to maestro_app
  using (exists (select from releases r where r.id = release_id));
create policy own_insert on release_files for insert to maestro_app with check (
  exists (select from releases r where r.id = release_id and r.publisher_tenant_id = app_tenant())
);
create policy own_rows on channel_history to maestro_app using (
  exists (select from packages p where p.name = package and p.publisher_tenant_id = app_tenant())
);

grant update (state, submitted_at, reviewed_by, reviewed_at, review_reason, marketplace_bundle, published_at,
  yanked_by, yanked_at, yank_reason) on releases to maestro_app;
grant update (description) on packages to maestro_app;
grant select, insert on release_files, channel_history to maestro_app;
