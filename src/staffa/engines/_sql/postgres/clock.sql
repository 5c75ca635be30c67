-- Own version: the database's clock is PostgreSQL's; SQLite's is this machine's.
select clock_timestamp()
