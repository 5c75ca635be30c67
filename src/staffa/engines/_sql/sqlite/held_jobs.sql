-- Own version: lists are JSON.
select id, state, take, json_extract(attempted_by, '$[1]') from oban_jobs where id in (select value from json_each(:ids))
