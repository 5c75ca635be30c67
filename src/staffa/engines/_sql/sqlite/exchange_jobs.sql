-- Own version: SQLite has no update inside a select, so three statements share the one transaction.
-- Jobs come as one text, as they will be when the last statement has taken them: row by row, each would wait
-- for Python's lock anew. Columns that hold JSON come first, so that no odd one can pass for the columns behind
-- it; keys that are left out mean what they mean in a new job. Most rows of attempted_by are as we write them.
-- Jobs without an attempt left are discarded, not taken.
update oban_jobs set state = 'completed', completed_at = :now
where (id, take) in (select value >> 20, value & 1048575 from json_each(:fences))
  and +state = 'executing'
  and (attempted_by = (select json_array(:node, :producer))
    or case when json_valid(attempted_by) then json_extract(attempted_by, '$[1]') end = :producer);

select
  changes(),
  json_group_array((id << 20) + take + 1) filter (where attempt < max_attempts),
  cast('[' || group_concat(
    printf(
      '{"args":%s%s%s%s,"id":%s,"state":"executing","queue":%s,"worker":%s,"attempt":%s,"max_attempts":%s,'
        || '"priority":%s,"inserted_at":"%s","scheduled_at":"%s","attempted_at":"%s"%s%s,"attempted_by":%s,'
        || '"take":%s%s}',
      args, ',"meta":' || nullif(meta, '{}'), ',"tags":' || nullif(tags, '[]'),
      ',"errors":' || nullif(errors, '[]'), id, (select json_quote(:queue)), json_quote(cast(worker as text)),
      attempt + 1, max_attempts, priority, inserted_at, scheduled_at, :now,
      ',"completed_at":"' || completed_at || '"', ',"cancelled_at":"' || cancelled_at || '"',
      (select json_array(:node, :producer)), take + 1,
      ',"unique_key":' || nullif(json_quote(cast(unique_key as text)), 'null'))) filter (where attempt < max_attempts)
    || ']' as blob)
from (
  select * from oban_jobs
  where state = 'available' and queue = :queue
    and exists (select 1 from staffa_producers where id = :producer and expired_at is null)
  order by priority, scheduled_at, id
  limit :demand);

update oban_jobs set
  state = case when attempt < max_attempts then 'executing' else 'discarded' end,
  discarded_at = case when attempt < max_attempts then null else :now end,
  attempt = min(attempt + 1, max_attempts),
  take = take + 1,
  attempted_at = :now,
  attempted_by = (select json_array(:node, :producer))
where id in (
  select id from oban_jobs
  where state = 'available' and queue = :queue
    and exists (select 1 from staffa_producers where id = :producer and expired_at is null)
  order by priority, scheduled_at, id
  limit :demand)
