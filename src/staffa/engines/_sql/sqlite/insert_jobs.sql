-- Own version: values come out of JSON one by one, and time is text of this machine's clock. SQLite's own
-- arithmetic of time stops at milliseconds, so delays are added as whole microseconds, up to the year 9999.
-- What jobs have in common is written once, in :kinds. The names in :jobs say the kind of each job and, behind a
-- colon, its unique key; they may repeat. Without `+ 0`, no index would be made to find kinds by their number.
-- As nobody else writes meanwhile, ids follow each other: the first job of each kind is answered, which is so many
-- before the last of all.
insert into oban_jobs
  (state, queue, worker, args, meta, tags, priority, max_attempts, unique_key, inserted_at, scheduled_at)
with kind as materialized (
  select
    *,
    coalesce(
      scheduled_at,
      strftime('%Y-%m-%dT%H:%M:%S', moment / 1000000, 'unixepoch') || printf('.%06dZ', moment % 1000000)) as due
  from (
    select
      json_extract(value, '$.number') as number,
      json_extract(value, '$.state') as state,
      json_extract(value, '$.queue') as queue,
      json_extract(value, '$.worker') as worker,
      json_extract(value, '$.meta') as meta,
      json_extract(value, '$.tags') as tags,
      json_extract(value, '$.priority') as priority,
      json_extract(value, '$.max_attempts') as max_attempts,
      json_extract(value, '$.scheduled_at') as scheduled_at,
      min(253402300799999999, max(0,
        strftime('%s', :now) * 1000000 + substr(:now, 21, 6)
        + cast(round(json_extract(value, '$.seconds') * 1000000) as integer))) as moment
    from json_each(:kinds)
  )
)
select
  case when state = 'available' and due > :now then 'scheduled' else state end,
  queue, worker, given.value, meta, tags, priority, max_attempts,
  case when instr(given.key, ':') then substr(given.key, instr(given.key, ':') + 1) end,
  :now, coalesce(due, :now)
from json_each(:jobs) as given
left join kind on kind.number = cast(given.key as integer) + 0
where true
order by given.id;

select first.id, first.state, first.inserted_at, first.scheduled_at
from json_each(:kinds) as kind
join oban_jobs as first on first.id = last_insert_rowid() - json_extract(kind.value, '$.before_last')
order by first.id
