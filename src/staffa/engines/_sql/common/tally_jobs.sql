-- What is wanted comes from wanted_jobs.
select count(*) from oban_jobs
where true
