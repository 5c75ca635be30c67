-- Own version: lists are read from JSON by another function, and time is text of this machine's clock.
insert into staffa_cron_ticks (entry, tick, inserted_at)
select json_extract(value, '$.entry'), json_extract(value, '$.tick'), :now
from json_each(:ticks)
where true
on conflict (entry, tick) do nothing
returning entry, tick
