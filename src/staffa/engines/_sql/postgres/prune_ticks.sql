-- Own version: the time is the database's. The newest tick of each entry stays, and when it became known.
delete from staffa_cron_ticks as old
where job_id is not null
  and tick < coalesce(:now::timestamptz, now()) at time zone 'UTC' - :seconds::float * interval '1 second'
  and exists (select from staffa_cron_ticks as newer where newer.entry = old.entry and newer.tick > old.tick)
