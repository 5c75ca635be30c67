select queue, state, count(*) from oban_jobs group by queue, state order by queue, state
