-- Own version: the producer stands in JSON.
select count(*) from oban_jobs
where state = 'executing'
  and not exists (
    select 1 from staffa_producers as producer
    where producer.id = case when json_valid(oban_jobs.attempted_by) then json_extract(oban_jobs.attempted_by, '$[1]') end)
