-- Own version: lists are JSON.
select case when json_valid(attempted_by) then json_extract(attempted_by, '$[1]') end, id
from oban_jobs
where state = 'executing'
order by id
