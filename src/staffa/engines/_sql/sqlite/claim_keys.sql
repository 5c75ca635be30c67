-- Own version: what holds which key is an object, and keys that nobody has used have no row yet. They are written in
-- their own order, each page once.
insert into staffa_keys (key, job_id, states, period, timestamp)
select given.key, given.value, :states, :period, :timestamp
from json_each(:holders) as given
where true
order by given.key
on conflict (key) do update set
  job_id = excluded.job_id,
  states = excluded.states,
  period = excluded.period,
  timestamp = excluded.timestamp
