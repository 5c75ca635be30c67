-- Own version: only here are indexes built beside writers, and leave halves behind when they are interrupted.
select index.relname::text, not entry.indisvalid and index.relname ~ '_cc(new|old)[0-9]*$' as leftover
from pg_index as entry
join pg_class as index on index.oid = entry.indexrelid
where entry.indrelid = $name$oban_jobs$name$::regclass
order by index.relname
