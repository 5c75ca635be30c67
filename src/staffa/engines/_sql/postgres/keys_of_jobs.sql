-- Own version: no limit is null. What is wanted comes from wanted_jobs.
select id, unique_key from oban_jobs
where true
order by id
limit cast(:limit as bigint)
