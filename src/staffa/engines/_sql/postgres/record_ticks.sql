-- Own version: lists are read from JSON by another function, and the time is the database's. The order keeps
-- two nodes that record the same ticks from waiting for each other.
insert into staffa_cron_ticks (entry, tick, inserted_at)
select given.entry, given.tick at time zone 'UTC', coalesce(:now::timestamptz, now()) at time zone 'UTC'
from json_to_recordset(:ticks::json) as given(entry text, tick timestamptz)
order by given.entry, given.tick
on conflict (entry, tick) do nothing
returning entry, tick
