-- Own version: lists are arrays, and the time is the database's.
update staffa_cron_ticks set inserted_at = coalesce(:now::timestamptz, now()) at time zone 'UTC'
where tick = timestamp 'epoch' and entry = any(:entries::text[])
