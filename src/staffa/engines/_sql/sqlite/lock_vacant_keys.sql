-- Own version: the transaction that writes holds every row already.
select key
from staffa_keys
where key > :after and key <= :until
  and not exists (select 1 from oban_jobs where id = job_id and unique_key = key)
order by key
