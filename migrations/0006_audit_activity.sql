-- Which logs had something appended of late, so that the audit worker's cron knows whom to sweep: one row a tenant, touched
-- rarely, gone once the log is idle.
create table audit_activity (
  tenant_id uuid primary key,
  active_at timestamptz not null
);
create index audit_activity_by_time on audit_activity (active_at);

alter table audit_activity enable row level security;
alter table audit_activity force row level security;
create policy all_rows on audit_activity to maestro_audit using (true) with check (true);
grant select, insert, update, delete on audit_activity to maestro_audit;
