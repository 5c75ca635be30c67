-- Own version: lists are JSON.
update oban_jobs set state = 'available', attempt = max(attempt - 1, 0)
where state = 'executing'
  and case when json_valid(attempted_by) then json_extract(attempted_by, '$[1]') end = :producer
  and (id << 20) + take not in (select value from json_each(:fences))
returning
  id, state, queue, worker, args, meta, tags, errors, attempt, max_attempts, priority,
  inserted_at, scheduled_at, attempted_at, completed_at, discarded_at, cancelled_at, attempted_by, take, unique_key
