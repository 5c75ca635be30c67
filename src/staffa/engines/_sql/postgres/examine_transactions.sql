-- Own version: only on a server do others hold back vacuum: by open transactions, by prepared ones, by
-- replication slots.
select kind, name, doing, extract(epoch from clock_timestamp() - since)::float as seconds
from (
  select 'transaction', pid::text,
    coalesce(nullif(application_name, '') || ', ', '') || coalesce(state, '') || ': ' || left(regexp_replace(query, '\s+', ' ', 'g'), 60), xact_start
  from pg_stat_activity
  where backend_type = 'client backend' and pid <> pg_backend_pid()
  union all
  select 'prepared transaction', gid, owner::text, prepared from pg_prepared_xacts
  union all
  select 'replication slot', slot_name, 'inactive, yet it keeps old rows', null
  from pg_replication_slots where not active and (xmin is not null or catalog_xmin is not null)
) as holding(kind, name, doing, since)
where since is null or since < clock_timestamp() - :seconds::float * interval '1 second'
order by since
limit 5
