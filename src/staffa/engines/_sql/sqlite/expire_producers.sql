-- Own version: the time is this machine's, and lists are read from JSON by another function.
update staffa_producers set expired_at = :now
from (
  select json_extract(value, '$.id') as id, json_extract(value, '$.beat') as beat from json_each(:still)
) as given
where staffa_producers.id = given.id and staffa_producers.beat = given.beat and expired_at is null
returning id
