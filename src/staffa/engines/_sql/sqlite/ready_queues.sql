-- Own version: lists are JSON.
select value from json_each(:queues)
where exists (select 1 from oban_jobs where state = 'available' and queue = value)
