-- Own version: the transaction that writes holds every row already; this begins it.
insert into staffa_keys (key)
select value from json_each(:keys) where true
on conflict (key) do nothing
returning key
