-- Own version: on SQLite, Oban's table has one version only.
select
  obj_description(job.oid, 'pg_class') as comment,
  pg_table_size(job.oid) as bytes,
  array(
    select attname || ' ' || format_type(atttypid, atttypmod) from pg_attribute
    where attrelid = job.oid and attnum > 0 and not attisdropped) as columns,
  array(
    select enumlabel::text from pg_enum
    where enumtypid = (select atttypid from pg_attribute where attrelid = job.oid and attname = 'state')) as states,
  array(
    select made.relname::text from pg_index join pg_class as made on made.oid = indexrelid
    where indrelid = job.oid) as indexes,
  array(select tgname::text from pg_trigger where tgrelid = job.oid and not tgisinternal) as triggers
from pg_class as job join pg_namespace as place on place.oid = job.relnamespace
where place.nspname = :schema and job.relname = :job_table and job.relkind in ('r', 'p')
