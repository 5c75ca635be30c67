-- Own version: SQLite has no index for what JSON contains.
select attribute.attname::text
from pg_index as entry
join pg_class as made on made.oid = entry.indexrelid
join pg_am as kind on kind.oid = made.relam
join pg_attribute as attribute on attribute.attrelid = entry.indrelid and attribute.attnum = entry.indkey[0]
where entry.indrelid = $name$oban_jobs$name$::regclass
  and kind.amname = 'gin'
  and entry.indnatts = 1
  and entry.indpred is null
  and entry.indisvalid
