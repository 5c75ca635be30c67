-- Which ticks of which cron entries were seen to, so that nobody inserts their jobs again. A row without a job
-- is the instant at which an entry became known. It does not depend on jobs, which are pruned.
create table if not exists staffa_cron_ticks (
  entry text not null,
  tick text not null,
  job_id integer,
  inserted_at text not null,
  primary key (entry, tick)
) without rowid;
