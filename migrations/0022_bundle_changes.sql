-- When the bundle in force came to be another one: when the trust domain was last rotated. Null: before this was noted, or never.
alter table trust_domains add column bundle_changed_at timestamptz;
