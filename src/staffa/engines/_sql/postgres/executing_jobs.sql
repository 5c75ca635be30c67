-- Own version: lists are arrays.
select attempted_by[2], id
from oban_jobs
where state = 'executing'
order by id
