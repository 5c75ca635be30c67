-- Own version: PostgreSQL has channels.
select id, channel, payload from staffa_notices where id > :after order by id
