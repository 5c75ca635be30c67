-- Own version: time is text of this machine's clock. A state without an age is never pruned: comparing with
-- null finds nothing.
delete from oban_jobs
where id in (
    select id from oban_jobs
    where state = 'completed' and completed_at < strftime('%Y-%m-%dT%H:%M:%f000Z', :now, '-' || :completed || ' seconds')
    order by completed_at limit :limit)
  or id in (
    select id from oban_jobs
    where state = 'cancelled' and cancelled_at < strftime('%Y-%m-%dT%H:%M:%f000Z', :now, '-' || :cancelled || ' seconds')
    order by cancelled_at limit :limit)
  or id in (
    select id from oban_jobs
    where state = 'discarded' and discarded_at < strftime('%Y-%m-%dT%H:%M:%f000Z', :now, '-' || :discarded || ' seconds')
    order by discarded_at limit :limit)
returning state
