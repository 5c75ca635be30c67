-- Own version: the time is the database's, and lists are read from JSON by another function.
update staffa_producers as producer set expired_at = timezone('UTC', now())
from json_to_recordset(:still::json) as given(id text, beat bigint)
where producer.id = given.id and producer.beat = given.beat and producer.expired_at is null
returning producer.id
