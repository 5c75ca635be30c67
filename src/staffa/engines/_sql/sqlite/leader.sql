-- Own version: the time is this machine's.
select node from oban_peers where name = :lease and expires_at >= :now
