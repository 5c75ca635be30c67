-- Own version: SQLite's clock is this machine's.
select :now
