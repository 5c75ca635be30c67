-- Own version: lists are arrays.
select id, state::text, take, attempted_by[2] from oban_jobs where id = any(:ids::bigint[])
