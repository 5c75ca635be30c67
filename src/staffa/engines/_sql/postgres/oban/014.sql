-- What Oban's own migration does: a state for jobs that are held back.
alter type oban_job_state add value if not exists 'suspended' before 'scheduled';
comment on table oban_jobs is '14';
