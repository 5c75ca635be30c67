-- Own version: lists are read from JSON by another function, and time is text.
update staffa_cron_ticks set job_id = json_extract(given.value, '$.job_id')
from json_each(:ticks) as given
where entry = json_extract(given.value, '$.entry') and tick = json_extract(given.value, '$.tick')
