-- Own version: on SQLite, nobody is named.
select distinct activity.pid, extract(epoch from now() - activity.xact_start)::int, coalesce(activity.query, '')
from pg_locks as lock
join pg_class as job on job.oid = lock.relation
join pg_namespace as place on place.oid = job.relnamespace
join pg_stat_activity as activity on activity.pid = lock.pid
where lock.granted and place.nspname = :schema and job.relname = :job_table and lock.pid <> pg_backend_pid()
order by 2 desc nulls last
limit 3
