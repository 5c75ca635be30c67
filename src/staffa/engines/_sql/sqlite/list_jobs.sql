-- Own version: lists are JSON. An empty list means any. SQLite plans before it sees the values, so wanted ids
-- also bound the part of the table that is looked at.
select
  id, state, queue, worker, args, meta, tags, errors, attempt, max_attempts, priority,
  inserted_at, scheduled_at, attempted_at, completed_at, discarded_at, cancelled_at, attempted_by, take, unique_key
from oban_jobs
where id >= (select coalesce(min(value), 0) from json_each(:ids))
  and id <= (select coalesce(max(value), 9223372036854775807) from json_each(:ids))
  and id < coalesce(:before, 9223372036854775807)
  and (:ids = '[]' or id in (select value from json_each(:ids)))
  and (:states = '[]' or state in (select value from json_each(:states)))
  and (:queues = '[]' or queue in (select value from json_each(:queues)))
  and (:workers = '[]' or worker in (select value from json_each(:workers)))
order by id desc
limit :limit
