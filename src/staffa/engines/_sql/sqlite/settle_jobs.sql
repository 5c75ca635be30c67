-- Own version: values come out of JSON one by one, and nobody else can hold a row.
update oban_jobs set
  state = given.state,
  attempt = given.attempt,
  max_attempts = given.max_attempts,
  errors = given.errors,
  meta = json_patch(oban_jobs.meta, given.meta),
  scheduled_at = given.scheduled_at,
  completed_at = given.completed_at,
  discarded_at = given.discarded_at,
  cancelled_at = given.cancelled_at
from (
  select
    json_extract(value, '$.id') as id,
    json_extract(value, '$.take') as take,
    json_extract(value, '$.was') as was,
    json_extract(value, '$.producer') as producer,
    json_extract(value, '$.state') as state,
    json_extract(value, '$.attempt') as attempt,
    json_extract(value, '$.max_attempts') as max_attempts,
    json_extract(value, '$.errors') as errors,
    json_extract(value, '$.meta') as meta,
    json_extract(value, '$.scheduled_at') as scheduled_at,
    json_extract(value, '$.completed_at') as completed_at,
    json_extract(value, '$.discarded_at') as discarded_at,
    json_extract(value, '$.cancelled_at') as cancelled_at
  from json_each(:settled)
) as given
where oban_jobs.id = given.id
  and +oban_jobs.state = given.was
  and oban_jobs.take = given.take
  and json_extract(oban_jobs.attempted_by, '$[1]') is given.producer
returning oban_jobs.id
