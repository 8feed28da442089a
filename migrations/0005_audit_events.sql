-- The log's rows for PQL: written in `seq` order by the audit worker, once each; every column is a function of the leaf.
create table audit_events (
  tenant_id uuid not null,
  seq bigint not null check (seq >= 0),
  logged_at timestamptz not null,
  occurred_at timestamptz not null,
  event_id text not null,
  type text not null,
  source text not null,
  principal text,
  execution_id text,
  package text,
  version text,
  channel text,
  outcome text,
  rule text,
  action text,
  units bigint,
  duration_ms bigint,
  attrs text not null,
  primary key (tenant_id, seq)
);
-- The time axis of every question, with the usual group-by fields beside it, so that counting needs no heap visit.
create index audit_events_by_time on audit_events (tenant_id, type, logged_at, seq)
  include (package, outcome, rule, channel, action);
create index audit_events_by_execution on audit_events (tenant_id, execution_id, seq) where execution_id is not null;

alter table audit_events enable row level security;
alter table audit_events force row level security;
create policy tenant_rows on audit_events for select to maestro_app using (tenant_id = app_tenant());
create policy all_rows_read on audit_events for select to maestro_audit using (true);
create policy all_rows_write on audit_events for insert to maestro_audit with check (true);
grant select on audit_events to maestro_app;
grant select, insert on audit_events to maestro_audit;
