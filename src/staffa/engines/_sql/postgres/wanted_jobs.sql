-- Own version: lists are arrays, and PostgreSQL knows by itself what contains what.
-- What a filter may ask for, a line for each of its fields: other statements take the lines they need, so that
-- each is planned for what it truly asks. States are written out, since partial indexes are found only then.
select id from oban_jobs
where true
  and id = any(cast(:ids as bigint[]))
  and state in (:states)
  and queue = any(cast(:queues as text[]))
  and worker = any(cast(:workers as text[]))
  and tags @> cast(:tags as text[])
  and args @> cast(:args as jsonb)
  and meta @> cast(:meta as jsonb)
  and priority = any(cast(:priorities as integer[]))
  and attempted_by[1] = any(cast(:nodes as text[]))
  and inserted_at >= cast(:inserted_after as timestamptz) at time zone 'UTC'
  and inserted_at < cast(:inserted_before as timestamptz) at time zone 'UTC'
  and scheduled_at >= cast(:scheduled_after as timestamptz) at time zone 'UTC'
  and scheduled_at < cast(:scheduled_before as timestamptz) at time zone 'UTC'
  and case state when 'completed' then completed_at when 'cancelled' then cancelled_at when 'discarded' then discarded_at end >= cast(:finished_after as timestamptz) at time zone 'UTC'
  and case state when 'completed' then completed_at when 'cancelled' then cancelled_at when 'discarded' then discarded_at end < cast(:finished_before as timestamptz) at time zone 'UTC'
  and id > cast(:after as bigint)
  and id < cast(:before as bigint)
