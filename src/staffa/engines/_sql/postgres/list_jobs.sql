-- Own version: lists are arrays. An empty list means any.
select
  id, state, queue, worker, args, meta, tags, errors, attempt, max_attempts, priority,
  inserted_at, scheduled_at, attempted_at, completed_at, discarded_at, cancelled_at, attempted_by, take, unique_key
from oban_jobs
where (cardinality(:ids::bigint[]) = 0 or id = any(:ids::bigint[]))
  and (cardinality(:states::text[]) = 0 or state = any(:states::text[]::oban_job_state[]))
  and (cardinality(:queues::text[]) = 0 or queue = any(:queues::text[]))
  and (cardinality(:workers::text[]) = 0 or worker = any(:workers::text[]))
  and (:before::bigint is null or id < :before::bigint)
order by id desc
limit :limit
