-- Own version: lists are arrays.
select entry, first.tick, newest.tick, newest.job_id
from unnest(:entries::text[]) as given(entry)
cross join lateral (
  select tick from staffa_cron_ticks where entry = given.entry order by tick limit 1) as first
cross join lateral (
  select tick, job_id from staffa_cron_ticks where entry = given.entry order by tick desc limit 1) as newest
