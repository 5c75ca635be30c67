-- Own version: rows are locked, in one order for all, until the transaction ends. What is wanted comes from
-- wanted_jobs.
select
  id, state, queue, worker, args, meta, tags, errors, attempt, max_attempts, priority,
  inserted_at, scheduled_at, attempted_at, completed_at, discarded_at, cancelled_at, attempted_by, take, unique_key
from oban_jobs
where true
order by id
limit cast(:limit as bigint)
for update
