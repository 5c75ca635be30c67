-- Own version: lists are JSON, and time is text of this machine's clock.
insert into staffa_cron_ticks (entry, tick, inserted_at)
select value, '1970-01-01T00:00:00.000000Z', :now from json_each(:entries)
where true
on conflict (entry, tick) do update set inserted_at = excluded.inserted_at
where staffa_cron_ticks.inserted_at < :started
returning entry
