-- Own version: time is text of this machine's clock. The newest tick of each entry stays, and when it became known.
delete from staffa_cron_ticks
where job_id is not null
  and tick < strftime('%Y-%m-%dT%H:%M:%f000Z', :now, '-' || :seconds || ' seconds')
  and tick < (select max(tick) from staffa_cron_ticks as newer where newer.entry = staffa_cron_ticks.entry)
