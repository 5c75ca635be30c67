-- Where Oban made its tables itself, version 0 was not recorded and they stay.
do $$
begin
  if exists (select from staffa_schema where version = 0) then
    drop table if exists oban_jobs;
    drop table if exists oban_peers;
    drop type if exists oban_job_state;
  end if;
end
$$;
