-- Own version: lists are read from JSON by another function, and no row may be inserted and updated at once.
insert into staffa_producers (id, node, queue, capacity, paused)
select distinct on (id) id, node, queue, capacity, paused
from json_to_recordset(:producers::json) as given(id text, node text, queue text, capacity integer, paused boolean)
on conflict (id) do update set capacity = excluded.capacity, paused = excluded.paused
