delete from oban_peers where name = :lease and node = :node returning name
