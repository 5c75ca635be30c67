-- Own version: rows come out of JSON by their types; the keys in an array keep the planner on the primary key.
update staffa_keys as held set
  job_id = given.job_id,
  states = given.states,
  period = given.period,
  timestamp = given.timestamp
from json_to_recordset(cast(:claims as json)) as given(
  key text, job_id bigint, states text[], period double precision, timestamp text)
where held.key = given.key
  and held.key = any(array(select json_array_elements_text(cast(:keys as json))))
