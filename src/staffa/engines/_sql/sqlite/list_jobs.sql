-- Own version: lists are JSON. An empty list means any.
select
  id, state, queue, worker, args, meta, tags, errors, attempt, max_attempts, priority,
  inserted_at, scheduled_at, attempted_at, completed_at, discarded_at, cancelled_at, attempted_by, take, unique_key
from oban_jobs
where (:ids = '[]' or id in (select value from json_each(:ids)))
  and (:states = '[]' or state in (select value from json_each(:states)))
  and (:queues = '[]' or queue in (select value from json_each(:queues)))
  and (:workers = '[]' or worker in (select value from json_each(:workers)))
  and (:before is null or id < :before)
order by id desc
limit :limit
