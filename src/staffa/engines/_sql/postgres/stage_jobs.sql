-- Own version: many nodes may stage for a while, so rows locked by others are passed over.
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
select queue, count(*) from staged group by queue
