-- Own version: arrays of JSON, and rows locked by others are passed over instead of waited for.
-- Errors and limits that are null stay as they are.
update oban_jobs as job set
  state = cast(given.state as oban_job_state),
  attempt = given.attempt,
  max_attempts = coalesce(given.max_attempts, job.max_attempts),
  errors = case when given.errors is null then job.errors else array(select jsonb_array_elements(given.errors)) end,
  meta = case when jsonb_typeof(job.meta) = 'object' then job.meta else '{}' end || given.meta,
  scheduled_at = coalesce(given.scheduled_at at time zone 'UTC', job.scheduled_at),
  completed_at = given.completed_at at time zone 'UTC',
  discarded_at = given.discarded_at at time zone 'UTC',
  cancelled_at = given.cancelled_at at time zone 'UTC'
from jsonb_to_recordset(cast(:settled as jsonb)) as given(
  id bigint, take integer, was text, producer text, state text, attempt integer, max_attempts integer,
  errors jsonb, meta jsonb, scheduled_at timestamptz, completed_at timestamptz, discarded_at timestamptz,
  cancelled_at timestamptz)
where job.id = given.id
  and job.id = any(array(select id from oban_jobs where id = any(cast(:ids as bigint[])) for update skip locked))
  and cast(job.state as text) = given.was
  and job.take = given.take
  and job.attempted_by[2] is not distinct from given.producer
returning (job.id << 20) + job.take
