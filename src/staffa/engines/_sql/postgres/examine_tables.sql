-- Own version: only a server counts dead rows and knows indexes that are not valid.
select 'dead', relname::text, n_dead_tup::float, n_live_tup::float
from pg_stat_user_tables where relid = $name$oban_jobs$name$::regclass
union all
select 'invalid', indexrelid::regclass::text, null, null
from pg_index where not indisvalid and indrelid in ($name$oban_jobs$name$::regclass, $name$staffa_producers$name$::regclass)
