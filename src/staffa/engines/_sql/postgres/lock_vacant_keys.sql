-- Own version: keys that somebody else has locked are passed over.
select key
from staffa_keys
where key > :after and key <= :until
  and not exists (select from oban_jobs where id = job_id and unique_key = key)
order by key
for update skip locked
