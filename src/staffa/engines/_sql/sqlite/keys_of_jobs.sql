-- Own version: no limit is -1. What is wanted comes from wanted_jobs.
select id, unique_key from oban_jobs
where true
order by id
limit coalesce(:limit, -1)
