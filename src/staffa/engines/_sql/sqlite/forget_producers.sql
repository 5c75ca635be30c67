-- Own version: time is text of this machine's clock.
delete from staffa_producers
where expired_at < strftime('%Y-%m-%dT%H:%M:%f000Z', :now, '-1 day')
  and not exists (
    select 1 from oban_jobs
    where state = 'executing' and case when json_valid(attempted_by) then json_extract(attempted_by, '$[1]') end = staffa_producers.id)
