-- Own version: SQLite needs none of it, where nobody else writes meanwhile. What holds which key is an object. Keys
-- are written in one order for all, and whoever waits too long for somebody's open transaction gives up.
with claimed as (
  insert into staffa_keys (key, job_id, states, period, timestamp)
  select given.key, cast(given.value as bigint), rule.states, cast(:period as double precision), :timestamp
  from json_each_text(cast(:holders as json)) as given
  cross join (select array(select json_array_elements_text(cast(:states as json))) as states) as rule
  where case
    when cast(:patience as text) is null then true
    else set_config('lock_timeout', cast(:patience as text), true) is not null end
  order by given.key
  on conflict (key) do nothing
  returning key
)
select count(*) from claimed
