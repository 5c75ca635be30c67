-- Own version: what holds which key is an object.
update staffa_keys set
  job_id = given.value,
  states = :states,
  period = :period,
  timestamp = :timestamp
from json_each(:holders) as given
where staffa_keys.key = given.key
