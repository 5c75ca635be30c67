-- Own version: lists are JSON.
delete from staffa_keys
where key in (select value from json_each(:keys))
  and not exists (select 1 from oban_jobs where id = job_id and unique_key = key)
returning key
