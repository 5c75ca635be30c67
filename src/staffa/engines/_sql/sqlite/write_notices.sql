-- Own version: PostgreSQL has channels.
-- Nobody waits longer than a minute for a notice; a few of the oldest go with each new one.
delete from staffa_notices
where id in (select id from staffa_notices order by id limit 100)
  and told_at < strftime('%Y-%m-%dT%H:%M:%f000Z', :now, '-1 minute');

insert into staffa_notices (channel, payload, told_at)
select :channel, value, :now from json_each(:payloads)
