-- Own version: rows are locked in one order for all. What is wanted comes from wanted_jobs.
delete from oban_jobs
where id = any(array(
  select id from oban_jobs
  where true
  order by id
  limit cast(:limit as bigint)
  for update))
returning id
