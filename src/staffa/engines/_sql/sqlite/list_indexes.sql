-- Own version: SQLite keeps its catalogue in a table of its own, and never leaves halves behind.
select name, false from sqlite_master where type = 'index' and tbl_name = 'oban_jobs' and sql is not null order by name
