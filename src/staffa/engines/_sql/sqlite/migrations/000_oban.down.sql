-- Run only where version 0 is recorded; where Oban made its table itself, it stays.
drop table if exists oban_jobs;
