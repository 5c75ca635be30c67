-- Own version: lists are arrays.
delete from oban_jobs where id = any(:ids::bigint[]) and state <> 'executing' returning id
