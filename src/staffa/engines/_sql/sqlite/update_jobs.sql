-- Own version: values come out of JSON one by one. What is null stays as it is.
update oban_jobs set
  state = coalesce(given.state, oban_jobs.state),
  queue = coalesce(given.queue, oban_jobs.queue),
  worker = coalesce(given.worker, oban_jobs.worker),
  args = coalesce(given.args, oban_jobs.args),
  meta = coalesce(given.meta, oban_jobs.meta),
  tags = coalesce(given.tags, oban_jobs.tags),
  priority = coalesce(given.priority, oban_jobs.priority),
  max_attempts = coalesce(given.max_attempts, oban_jobs.max_attempts),
  scheduled_at = coalesce(given.scheduled_at, oban_jobs.scheduled_at)
from (
  select
    json_extract(value, '$.id') as id,
    json_extract(value, '$.state') as state,
    json_extract(value, '$.queue') as queue,
    json_extract(value, '$.worker') as worker,
    json_extract(value, '$.args') as args,
    json_extract(value, '$.meta') as meta,
    json_extract(value, '$.tags') as tags,
    json_extract(value, '$.priority') as priority,
    json_extract(value, '$.max_attempts') as max_attempts,
    json_extract(value, '$.scheduled_at') as scheduled_at
  from json_each(:changed)
) as given
where oban_jobs.id = given.id
