-- Own version: values come as one record for each job. What is null stays as it is.
update oban_jobs as job set
  state = coalesce(cast(given.state as oban_job_state), job.state),
  queue = coalesce(given.queue, job.queue),
  worker = coalesce(given.worker, job.worker),
  args = coalesce(given.args, job.args),
  meta = coalesce(given.meta, job.meta),
  tags = coalesce(given.tags, job.tags),
  priority = coalesce(given.priority, job.priority),
  max_attempts = coalesce(given.max_attempts, job.max_attempts),
  scheduled_at = coalesce(given.scheduled_at at time zone 'UTC', job.scheduled_at)
from jsonb_to_recordset(cast(:changed as jsonb)) as given(
  id bigint, state text, queue text, worker text, args jsonb, meta jsonb, tags text[], priority integer,
  max_attempts integer, scheduled_at timestamptz)
where job.id = given.id and job.id = any(cast(:ids as bigint[]))
