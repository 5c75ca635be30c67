-- Own version: time is text of this machine's clock. SQLite's own arithmetic of time stops at milliseconds, so a
-- delay is added as whole microseconds, up to the year 9999.
insert into oban_jobs
  (state, queue, worker, args, meta, tags, priority, max_attempts, unique_key, inserted_at, scheduled_at)
select
  case when :state = 'available' and due > :now then 'scheduled' else :state end,
  :queue, :worker, :args, :meta, :tags, :priority, :max_attempts, :unique_key, :now, due
from (
  select
    coalesce(
      :scheduled_at,
      strftime('%Y-%m-%dT%H:%M:%S', moment / 1000000, 'unixepoch') || printf('.%06dZ', moment % 1000000),
      :now) as due
  from (
    select
      min(253402300799999999, max(0,
        strftime('%s', :now) * 1000000 + substr(:now, 21, 6) + cast(round(:seconds * 1000000) as integer))) as moment
  )
)
returning id, state, inserted_at, scheduled_at
