-- Own version: time is text of this machine's clock.
insert into oban_peers (name, node, started_at, expires_at)
values (:lease, :node, :now, strftime('%Y-%m-%dT%H:%M:%f000Z', :now, '+' || :seconds || ' seconds'))
on conflict (name) do update set
  node = excluded.node,
  started_at = case when node = excluded.node then started_at else excluded.started_at end,
  expires_at = excluded.expires_at
where node = excluded.node or expires_at < excluded.started_at
returning node
