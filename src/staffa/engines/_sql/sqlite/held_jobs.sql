-- Own version: lists are JSON.
select id, state, take, case when json_valid(attempted_by) then json_extract(attempted_by, '$[1]') end from oban_jobs where id in (select value from json_each(:ids))
