-- Own version: keys are locked in one order for all, until the transaction ends; those that are there already too,
-- which `where false` leaves unwritten. Whoever waits too long for somebody's open transaction gives up.
insert into staffa_keys (key)
select key
from json_array_elements_text(cast(:keys as json)) as key
where case
  when cast(:patience as text) is null then true
  else set_config('lock_timeout', cast(:patience as text), true) is not null end
order by key
on conflict (key) do update set key = excluded.key where false
returning key
