-- Own version: lists are arrays, and the time is the database's.
insert into staffa_cron_ticks (entry, tick, inserted_at)
select entry, timestamp 'epoch', coalesce(:now::timestamptz, now()) at time zone 'UTC'
from unnest(:entries::text[]) as entry
order by entry
on conflict (entry, tick) do update set inserted_at = excluded.inserted_at
where staffa_cron_ticks.inserted_at < :started::timestamptz at time zone 'UTC'
returning entry
