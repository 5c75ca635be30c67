-- Own version: JSON is merged by an operator, and rows locked by others are passed over.
update oban_jobs as job set
  meta = case when jsonb_typeof(job.meta) = 'object' then job.meta else '{}' end
    || jsonb_build_object('progress', given.progress)
from jsonb_to_recordset(:told::jsonb) as given(id bigint, take integer, progress jsonb)
where job.id = given.id
  and job.id = any(array(select id from oban_jobs where id = any(:ids::bigint[]) for update skip locked))
  and job.state::text = 'executing'
  and job.take = given.take
  and job.attempted_by[2] = :producer
