select queue, worker, cast(state as text), count(*), min(scheduled_at)
from oban_jobs
where state in ('available', 'scheduled', 'retryable')
group by queue, worker, state
order by queue, worker, state
