-- What a decision was made on is written with the outbox row of its event, in one statement, and kept where it always was.
-- A statement that leaves no event leaves no input either.
alter table outbox add column decided_on text check (octet_length(decided_on) <= 49152);

-- As whoever inserts: row security of decision_inputs holds.
create function keep_decision_input() returns trigger
  language plpgsql as $$
begin
  insert into decision_inputs (tenant_id, event_id, decided_at, input)
  values (new.tenant_id, new.event_id, (new.body::jsonb ->> 'occurred_at')::timestamptz, new.decided_on)
  on conflict do nothing;
  new.decided_on := null;
  return new;
end $$;

create trigger keep_decision_input before insert on outbox
  for each row when (new.decided_on is not null) execute function keep_decision_input();
