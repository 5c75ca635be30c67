-- Own version: PostgreSQL has channels.
select coalesce(max(id), 0) from staffa_notices
