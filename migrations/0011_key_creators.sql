-- An API key's principal comes from whoever created the key. `created_by` is that principal, `origin_id` the one at the
-- head of the chain, whose access came from nobody here (a person's outside identity, or a row of the operator's): principals
-- of one origin are one person where two have to agree. Both are written once, with the row. Principals from before this
-- are their own origin.
alter table principals
  add column created_by text,
  add column origin_id text,
  add constraint principals_created_by foreign key (tenant_id, created_by) references principals (tenant_id, id),
  add constraint principals_origin foreign key (tenant_id, origin_id) references principals (tenant_id, id),
  add constraint principals_come_from_someone check ((created_by is null) = (origin_id is null));

-- A bar is lifted by somebody: the health gate, which is nobody, has no way to.
alter table release_bars add constraint release_bars_lifted_by_someone check (lifted_at is null or lifted_by is not null);
