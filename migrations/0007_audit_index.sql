-- How far audit_events goes, a row a tenant, written in the transaction of the rows themselves: every row with a seq below
-- indexed_seq is there, and so is every row that was logged before indexed_to. Rows of that very millisecond may follow.
create table audit_index (
  tenant_id uuid primary key,
  indexed_seq bigint not null check (indexed_seq > 0),
  indexed_to timestamptz not null
);

-- What is there already was written in seq order. The owner sees it only while row security is not forced.
alter table audit_events no force row level security;
insert into audit_index (tenant_id, indexed_seq, indexed_to)
  select tenant_id, max(seq) + 1, max(logged_at) from audit_events group by tenant_id;
alter table audit_events force row level security;

alter table audit_index enable row level security;
alter table audit_index force row level security;
create policy tenant_rows on audit_index for select to maestro_app using (tenant_id = app_tenant());
create policy all_rows on audit_index to maestro_audit using (true) with check (true);
grant select on audit_index to maestro_app;
grant select, insert, update on audit_index to maestro_audit;
