-- Own version: the time is this machine's, and lists are JSON.
update staffa_producers set beat = beat + 1, beat_at = :now
where id in (select value from json_each(:ids)) and expired_at is null
returning id
