-- Own version: time is counted by the database. A day is kept because a stopped process may wake and take
-- one more batch under its old name.
delete from staffa_producers as producer
where expired_at < timezone('UTC', now()) - interval '1 day'
  and not exists (select from oban_jobs where state = 'executing' and attempted_by[2] = producer.id)
