-- Own version: the transaction that writes holds every row already. What is wanted comes from wanted_jobs.
select
  id, state, queue, worker, args, meta, tags, errors, attempt, max_attempts, priority,
  inserted_at, scheduled_at, attempted_at, completed_at, discarded_at, cancelled_at, attempted_by, take, unique_key
from oban_jobs
where true
order by id
limit coalesce(:limit, -1)
