-- Own version: lists are read from JSON by another function.
insert into staffa_producers (id, node, queue, capacity, paused)
select
  json_extract(value, '$.id'), json_extract(value, '$.node'), json_extract(value, '$.queue'),
  json_extract(value, '$.capacity'), json_extract(value, '$.paused')
from json_each(:producers)
where true
on conflict (id) do update set capacity = excluded.capacity, paused = excluded.paused
