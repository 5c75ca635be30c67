-- Own version: time is counted by the database, and rows locked by others are passed over.
-- A state without an age is never pruned: comparing with null finds nothing.
delete from oban_jobs
where id = any(array(
    select id from oban_jobs
    where state = 'completed'
      and completed_at < coalesce(:now::timestamptz, now()) at time zone 'UTC' - :completed::float * interval '1 second'
    order by completed_at limit :limit for update skip locked))
  or id = any(array(
    select id from oban_jobs
    where state = 'cancelled'
      and cancelled_at < coalesce(:now::timestamptz, now()) at time zone 'UTC' - :cancelled::float * interval '1 second'
    order by cancelled_at limit :limit for update skip locked))
  or id = any(array(
    select id from oban_jobs
    where state = 'discarded'
      and discarded_at < coalesce(:now::timestamptz, now()) at time zone 'UTC' - :discarded::float * interval '1 second'
    order by discarded_at limit :limit for update skip locked))
returning state::text
