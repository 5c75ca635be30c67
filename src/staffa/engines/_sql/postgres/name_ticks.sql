-- Own version: lists are read from JSON by another function.
update staffa_cron_ticks as seen set job_id = given.job_id
from json_to_recordset(:ticks::json) as given(entry text, tick timestamptz, job_id bigint)
where seen.entry = given.entry and seen.tick = given.tick at time zone 'UTC'
