-- Own version: the time is the database's, and lists are arrays.
update staffa_producers set expired_at = timezone('UTC', now())
where id = any(:ids::text[]) and expired_at is null
