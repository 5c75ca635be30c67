-- Own version: lists are arrays, and rows locked by others are passed over.
update oban_jobs set state = 'available', attempt = greatest(attempt - 1, 0)
where id = any(array(
  select id from oban_jobs
  where state = 'executing' and attempted_by[2] = :producer and (id << 20) + take <> all(:fences::bigint[])
  for update skip locked))
returning
  id, state, queue, worker, args, meta, tags, errors, attempt, max_attempts, priority,
  inserted_at, scheduled_at, attempted_at, completed_at, discarded_at, cancelled_at, attempted_by, take, unique_key
