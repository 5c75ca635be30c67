-- Own version: values come out of JSON one by one.
update staffa_keys set
  job_id = given.job_id,
  states = given.states,
  period = given.period,
  timestamp = given.timestamp
from (
  select
    json_extract(value, '$.key') as key,
    json_extract(value, '$.job_id') as job_id,
    json_extract(value, '$.states') as states,
    json_extract(value, '$.period') as period,
    json_extract(value, '$.timestamp') as timestamp
  from json_each(:claims)
) as given
where staffa_keys.key = given.key
