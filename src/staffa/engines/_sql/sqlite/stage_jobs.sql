-- Own version: SQLite has no update inside a select, so every job is counted by itself.
update oban_jobs set state = 'available'
where id in (
  select id from oban_jobs
  where state in ('scheduled', 'retryable') and scheduled_at <= :now
  order by scheduled_at, id
  limit :limit)
returning queue, 1
