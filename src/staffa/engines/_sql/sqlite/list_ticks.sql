-- Own version: lists are JSON, and there are no lateral joins.
select given.value, first.tick, newest.tick, newest.job_id
from json_each(:entries) as given
join staffa_cron_ticks as first on first.entry = given.value
  and first.tick = (select min(tick) from staffa_cron_ticks where entry = given.value)
join staffa_cron_ticks as newest on newest.entry = given.value
  and newest.tick = (select max(tick) from staffa_cron_ticks where entry = given.value)
