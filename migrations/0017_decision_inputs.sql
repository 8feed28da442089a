-- What decisions were made on, as RFC 8785 text: the log has its digest, so that the policy can be asked again later. Written in the
-- transaction of the decision's event; the cron forgets what is older than its window.
create table decision_inputs (
  tenant_id uuid not null references tenants(id),
  event_id text not null,
  decided_at timestamptz not null,
  input text not null check (octet_length(input) <= 49152),
  primary key (tenant_id, event_id)
);
create index decision_inputs_by_time on decision_inputs (decided_at);
alter table decision_inputs enable row level security;
alter table decision_inputs force row level security;
create policy tenant_rows on decision_inputs to maestro_app using (tenant_id = app_tenant());
create policy old_rows on decision_inputs to maestro_drain using (decided_at < now() - interval '400 days');
grant select, insert on decision_inputs to maestro_app;
grant select, delete on decision_inputs to maestro_drain;
