-- Own version: the time is the database's.
select node from oban_peers where name = :lease and expires_at >= timezone('UTC', now())
