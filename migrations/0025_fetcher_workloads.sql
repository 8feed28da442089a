-- Whether a tenant has registered a fetcher's SPIFFE ID is asked with each API key: by one look into an index, and not by a look at the
-- principal of each workload.
alter table principals add constraint principals_tenant_id_id_role_key unique (tenant_id, id, role);
alter table workloads add column role text;

alter table principals no force row level security;
alter table workloads no force row level security;
update workloads w set role = p.role from principals p where p.tenant_id = w.tenant_id and p.id = w.principal_id;
alter table principals force row level security;
alter table workloads force row level security;

-- As whoever inserts: row security of principals holds. So workers from before need not know of the column.
create function note_workload_role() returns trigger
  language plpgsql as $$
begin
  new.role := (select p.role from principals p where p.tenant_id = new.tenant_id and p.id = new.principal_id);
  return new;
end $$;

create trigger note_workload_role before insert on workloads
  for each row execute function note_workload_role();

alter table workloads
  alter column role set not null,
  add foreign key (tenant_id, principal_id, role) references principals (tenant_id, id, role) on update cascade;
create index workloads_of_fetchers on workloads (tenant_id, principal_id) where role = 'fetcher';
