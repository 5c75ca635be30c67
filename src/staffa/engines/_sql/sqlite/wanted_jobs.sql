-- Own version: lists are JSON, and staffa_contains is what PostgreSQL's @> is: SQLite learns it from Python.
-- What a filter may ask for, a line for each of its fields: other statements take the lines they need, so that
-- each is planned for what it truly asks. States are written out, since partial indexes are found only then.
select id from oban_jobs
where true
  and id in (select value from json_each(:ids))
  and state in (:states)
  and queue in (select value from json_each(:queues))
  and worker in (select value from json_each(:workers))
  and staffa_contains(tags, :tags)
  and staffa_contains(args, :args)
  and staffa_contains(meta, :meta)
  and priority in (select value from json_each(:priorities))
  and case when json_valid(attempted_by) then json_extract(attempted_by, '$[0]') end in (select value from json_each(:nodes))
  and inserted_at >= :inserted_after
  and inserted_at < :inserted_before
  and scheduled_at >= :scheduled_after
  and scheduled_at < :scheduled_before
  and case state when 'completed' then completed_at when 'cancelled' then cancelled_at when 'discarded' then discarded_at end >= :finished_after
  and case state when 'completed' then completed_at when 'cancelled' then cancelled_at when 'discarded' then discarded_at end < :finished_before
  and id > :after
  and id < :before
