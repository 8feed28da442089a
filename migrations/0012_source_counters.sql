-- The events of a tenant's outbox are counted, 1, 2, 3 …, as the drain takes them: its one writer a shard numbers each row
-- once, so that nothing on the way of a request waits for a counter. The numbers of rows that were taken and not deleted yet
-- stand beside the counter, so that a row that is sent twice has its number; a row a tenant is written, not one an event.
-- The log tells of numbers that never come.
create table outbox_counters (
  tenant_id uuid primary key references tenants(id),
  source_seq bigint not null check (source_seq > 0),
  -- To the minute, so that the index is not written with each drain.
  counted_at timestamptz not null,
  taken_ids bigint[] not null,
  taken_seqs bigint[] not null,
  check (cardinality(taken_ids) = cardinality(taken_seqs))
);
create index outbox_counters_by_time on outbox_counters (counted_at);
alter table outbox_counters enable row level security;
alter table outbox_counters force row level security;
create policy all_rows on outbox_counters to maestro_drain using (true) with check (true);
-- The audit worker's cron tells the logs what was counted of late, so that the last events of all can be missed, too.
create policy all_rows_read on outbox_counters for select to maestro_audit using (true);
grant select, insert, update on outbox_counters to maestro_drain;
grant select on outbox_counters to maestro_audit;
