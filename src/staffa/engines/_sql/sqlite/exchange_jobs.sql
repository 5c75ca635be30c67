-- Own version: SQLite has no update inside a select, so three statements share the one transaction.
-- Jobs without an attempt left are discarded, not taken.
update oban_jobs set state = 'completed', completed_at = :now
where id in (select value from json_each(:ids))
  and +state = 'executing'
  and (id << 20) + take in (select value from json_each(:fences))
  and case when json_valid(attempted_by) then json_extract(attempted_by, '$[1]') end = :producer;

select changes(), null, null, null, null, null, null, null, null, null, null, null,
  null, null, null, null, null, null, null, null, null;

update oban_jobs set
  state = case when attempt < max_attempts then 'executing' else 'discarded' end,
  discarded_at = case when attempt < max_attempts then null else :now end,
  attempt = min(attempt + 1, max_attempts),
  take = take + 1,
  attempted_at = :now,
  attempted_by = json_array(:node, :producer)
where id in (
  select id from oban_jobs
  where state = 'available' and queue = :queue
    and exists (select 1 from staffa_producers where id = :producer and expired_at is null)
  order by priority, scheduled_at, id
  limit :demand)
returning
  null, id, state, queue, worker, args, meta, tags, errors, attempt, max_attempts, priority,
  inserted_at, scheduled_at, attempted_at, completed_at, discarded_at, cancelled_at, attempted_by, take, unique_key
