-- Own version: JSON is merged by a function, which text that is no JSON would stop.
update oban_jobs set meta = json_set(case when json_valid(meta) and meta like '{%' then meta else '{}' end, '$.progress', json(given.progress))
from (
  select
    json_extract(value, '$.id') as id,
    json_extract(value, '$.take') as take,
    json_extract(value, '$.progress') as progress
  from json_each(:told)
) as given
where oban_jobs.id = given.id
  and +oban_jobs.state = 'executing'
  and oban_jobs.take = given.take
  and case when json_valid(oban_jobs.attempted_by) then json_extract(oban_jobs.attempted_by, '$[1]') end = :producer
