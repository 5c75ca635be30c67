-- What Oban's own migration does: indexes for its pruner.
create index if not exists oban_jobs_state_cancelled_at_index on oban_jobs (state, cancelled_at);
create index if not exists oban_jobs_state_discarded_at_index on oban_jobs (state, discarded_at);
