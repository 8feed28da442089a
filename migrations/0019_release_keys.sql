-- The marketplace's release keys that signatures are believed by, beside those that are pinned in the API's configuration: each
-- was endorsed by one that was believed before. A row for a pinned key says when it ended, or that it was revoked. Whoever
-- verifies a signature reads them, so a revocation counts from its commit on.
create table release_keys (
  kid text primary key check (kid ~ '^[0-9a-f]{64}$'),
  spki text not null check (length(spki) <= 200),
  not_before timestamptz not null,
  not_after timestamptz,
  revoked_at timestamptz,
  -- Null: pinned.
  endorsement jsonb,
  rotation_id text not null,
  changed_at timestamptz not null
);

alter table release_keys enable row level security;
alter table release_keys force row level security;
create policy public_read on release_keys for select to maestro_app using (true);
create policy curators_insert on release_keys for insert to maestro_app with check (app_curates());
create policy curators_update on release_keys for update to maestro_app using (app_curates());
grant select, insert on release_keys to maestro_app;
grant update (not_after, revoked_at, changed_at) on release_keys to maestro_app;

-- A countersignature by a key that is not believed any more is made anew; nothing else of the release changes.
create policy countersign_update on releases for update to maestro_app
  using (state in ('published', 'yanked') and app_curates()) with check (state in ('published', 'yanked') and app_curates());
create index releases_by_release_key on releases ((marketplace_bundle #>> '{verificationMaterial,publicKey,hint}'));
create index channel_pointers_by_release_key on channel_pointers ((bundle #>> '{verificationMaterial,publicKey,hint}'));
