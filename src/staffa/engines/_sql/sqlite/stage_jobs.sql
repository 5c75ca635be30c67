-- Own version: SQLite has no update inside a select, so every job is counted by itself. Its arithmetic of time
-- stops at milliseconds, so that the seconds until the next job is due are rounded up.
update oban_jobs set state = 'available'
where id in (
  select id from oban_jobs
  where state in ('scheduled', 'retryable') and scheduled_at <= :now
  order by scheduled_at, id
  limit :limit)
returning queue, 1, null;

select null, null, (julianday(min(scheduled_at)) - julianday(:now)) * 86400 + 0.001
from oban_jobs
where state in ('scheduled', 'retryable')
  and scheduled_at > :now
  and scheduled_at < strftime('%Y-%m-%dT%H:%M:%f000Z', :now, '+1 day')
