-- Own version: nobody else can hold a row.
select
  id, state, queue, worker, args, meta, tags, errors, attempt, max_attempts, priority,
  inserted_at, scheduled_at, attempted_at, completed_at, discarded_at, cancelled_at, attempted_by, take, unique_key
from oban_jobs
where state = 'executing'
  and case when json_valid(attempted_by) then json_extract(attempted_by, '$[1]') end in (select id from staffa_producers where expired_at is not null)
order by id
limit :limit
