-- Own version: many nodes may stage for a while, so rows locked by others are passed over.
-- The last row tells in how many seconds the next job is due, if one is within a day: infinity is a date too.
with staged as (
  update oban_jobs set state = 'available'
  where id = any(array(
    select id from oban_jobs
    where state in ('scheduled', 'retryable')
      and scheduled_at <= coalesce(:now::timestamptz, now()) at time zone 'UTC'
    order by scheduled_at, id
    limit :limit
    for update skip locked))
  returning queue
)
select queue, count(*), null from staged group by queue
union all
select null, null, extract(epoch from min(scheduled_at) - coalesce(:now::timestamptz, now()) at time zone 'UTC')
from oban_jobs
where state in ('scheduled', 'retryable')
  and scheduled_at > coalesce(:now::timestamptz, now()) at time zone 'UTC'
  and scheduled_at < (coalesce(:now::timestamptz, now()) + interval '1 day') at time zone 'UTC'
