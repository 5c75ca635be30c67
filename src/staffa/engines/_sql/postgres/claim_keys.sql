-- Own version: what holds which key is an object; the keys in an array keep the planner on the primary key.
update staffa_keys as held set
  job_id = cast(given.value as bigint),
  states = array(select json_array_elements_text(cast(:states as json))),
  period = cast(:period as double precision),
  timestamp = :timestamp
from json_each_text(cast(:holders as json)) as given
where held.key = given.key
  and held.key = any(array(select json_object_keys(cast(:holders as json))))
