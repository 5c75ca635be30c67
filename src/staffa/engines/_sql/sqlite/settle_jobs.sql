-- Own version: values come out of JSON one by one, and nobody else can hold a row. Errors and limits that are
-- null stay as they are.
-- Keys of meta are replaced whole, as PostgreSQL does it: json_patch alone would merge what is inside of them
-- and drop nulls, so it only takes the replaced keys out, and the new ones are put in as text.
update oban_jobs set
  state = given.state,
  attempt = given.attempt,
  max_attempts = coalesce(given.max_attempts, oban_jobs.max_attempts),
  errors = coalesce(given.errors, oban_jobs.errors),
  meta = case given.meta when '{}' then oban_jobs.meta else (
    select case rest when '{}' then given.meta else substr(rest, 1, length(rest) - 1) || ',' || substr(given.meta, 2) end
    from (
      select json_patch(
        case when json_valid(oban_jobs.meta) and oban_jobs.meta like '{%' then oban_jobs.meta else '{}' end,
        given.replaced) as rest)) end,
  scheduled_at = coalesce(given.scheduled_at, oban_jobs.scheduled_at),
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
    json_extract(value, '$.replaced') as replaced,
    json_extract(value, '$.scheduled_at') as scheduled_at,
    json_extract(value, '$.completed_at') as completed_at,
    json_extract(value, '$.discarded_at') as discarded_at,
    json_extract(value, '$.cancelled_at') as cancelled_at
  from json_each(:settled)
) as given
where oban_jobs.id = given.id
  and +oban_jobs.state = given.was
  and oban_jobs.take = given.take
  and case when json_valid(oban_jobs.attempted_by) then json_extract(oban_jobs.attempted_by, '$[1]') end is given.producer
returning (oban_jobs.id << 20) + oban_jobs.take
