-- Own version: lists are read from JSON by another function.
insert into staffa_producers (id, node, queue, capacity)
select id, node, queue, capacity
from json_to_recordset(:producers::json) as given(id text, node text, queue text, capacity integer)
on conflict (id) do nothing
