-- Own version: the transaction that writes holds every row already. What is wanted comes from wanted_jobs.
delete from oban_jobs
where id in (
  select id from oban_jobs
  where true
  order by id
  limit coalesce(:limit, -1))
returning id
