-- Rows of counts for PQL: an hour's and a day's events of a tenant by type, outcome and package, the counts of each in slots.
-- They are made once, when no event can come into the hour any more, and never change. A missing outcome or package is a group
-- of its own. Rows with is_sum are over all packages, and their package is null.
create table audit_hours (
  tenant_id uuid not null,
  is_sum boolean not null,
  type text not null,
  -- The UTC hour's begin.
  hour timestamptz not null,
  outcome text,
  package text,
  total integer not null check (total > 0),
  -- Of five minutes each; 0 where nothing was.
  slots integer[] not null check (cardinality(slots) = 12)
);
create unique index audit_hours_by_time on audit_hours (tenant_id, is_sum, type, hour, outcome, package)
  include (total) nulls not distinct;

create table audit_days (
  tenant_id uuid not null,
  is_sum boolean not null,
  type text not null,
  -- The UTC day's begin.
  day timestamptz not null,
  outcome text,
  package text,
  total integer not null check (total > 0),
  -- Of an hour each.
  slots integer[] not null check (cardinality(slots) = 24)
);
create unique index audit_days_by_time on audit_days (tenant_id, is_sum, type, day, outcome, package)
  include (total) nulls not distinct;

-- How far the rows of counts go, a row a tenant, written in the transaction of the rows themselves: every event with a seq below
-- sealed_seq is counted in an hour before sealed_to, a UTC hour; every whole day before days_to is counted in audit_days.
create table audit_sealed (
  tenant_id uuid primary key,
  sealed_seq bigint not null check (sealed_seq >= 0),
  sealed_to timestamptz,
  days_to timestamptz
);

alter table audit_hours enable row level security;
alter table audit_hours force row level security;
create policy tenant_rows on audit_hours for select to maestro_app using (tenant_id = app_tenant());
create policy all_rows_read on audit_hours for select to maestro_audit using (true);
create policy all_rows_write on audit_hours for insert to maestro_audit with check (true);
grant select on audit_hours to maestro_app;
grant select, insert on audit_hours to maestro_audit;

alter table audit_days enable row level security;
alter table audit_days force row level security;
create policy tenant_rows on audit_days for select to maestro_app using (tenant_id = app_tenant());
create policy all_rows_read on audit_days for select to maestro_audit using (true);
create policy all_rows_write on audit_days for insert to maestro_audit with check (true);
grant select on audit_days to maestro_app;
grant select, insert on audit_days to maestro_audit;

alter table audit_sealed enable row level security;
alter table audit_sealed force row level security;
create policy tenant_rows on audit_sealed for select to maestro_app using (tenant_id = app_tenant());
create policy all_rows on audit_sealed to maestro_audit using (true) with check (true);
grant select on audit_sealed to maestro_app;
grant select, insert, update on audit_sealed to maestro_audit;
