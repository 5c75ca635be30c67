-- Own version: the time is the database's.
insert into oban_peers as peer (name, node, started_at, expires_at)
select :lease, :node, clock.now, clock.now + :seconds::float * interval '1 second'
from (select coalesce(:now::timestamptz, now()) at time zone 'UTC' as now) as clock
on conflict (name) do update set
  node = excluded.node,
  started_at = case when peer.node = excluded.node then peer.started_at else excluded.started_at end,
  expires_at = excluded.expires_at
where peer.node = excluded.node or peer.expires_at < excluded.started_at
returning node
