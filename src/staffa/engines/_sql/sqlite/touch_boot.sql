-- Own version: lists are JSON, and time is text of this machine's clock.
update staffa_cron_ticks set inserted_at = :now
where tick = '1970-01-01T00:00:00.000000Z' and entry in (select value from json_each(:entries))
