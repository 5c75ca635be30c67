-- Own version: lists are arrays. It looks again for holders: one that was inserted while the keys were being locked
-- is seen only now.
delete from staffa_keys
where key = any(cast(:keys as text[]))
  and not exists (select from oban_jobs where id = job_id and unique_key = key)
returning key
