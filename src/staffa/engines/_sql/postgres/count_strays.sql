-- Own version: the producer stands in an array.
select count(*) from oban_jobs
where state = 'executing'
  and not exists (select from staffa_producers as producer where producer.id = oban_jobs.attempted_by[2])
