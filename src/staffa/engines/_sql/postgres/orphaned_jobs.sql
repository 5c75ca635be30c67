-- Own version: rows are locked, and those locked by others are passed over.
select
  id, state, queue, worker, args, meta, tags, errors, attempt, max_attempts, priority,
  inserted_at, scheduled_at, attempted_at, completed_at, discarded_at, cancelled_at, attempted_by, take, unique_key
from oban_jobs
where state = 'executing'
  and attempted_by[2] = any(array(select id from staffa_producers where expired_at is not null))
order by id
limit :limit
for update skip locked
