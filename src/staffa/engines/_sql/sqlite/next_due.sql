-- Own version: whoever has nothing to write looks first, as there is one writer at a time. The seconds are none where
-- something is due; they are rounded up, as SQLite's arithmetic of time stops at milliseconds.
select case when at <= :now then 0 else (julianday(at) - julianday(:now)) * 86400 + 0.001 end
from (
  select (
    select scheduled_at from oban_jobs
    where state in ('scheduled', 'retryable')
      and scheduled_at < strftime('%Y-%m-%dT%H:%M:%f000Z', :now, '+1 day')
    order by scheduled_at
    limit 1) as at)
