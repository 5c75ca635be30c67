-- Own version: lists are JSON.
delete from oban_jobs where id in (select value from json_each(:ids)) and state <> 'executing' returning id
