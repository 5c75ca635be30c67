-- Own version: lists are arrays.
select given.queue from unnest(:queues::text[]) as given (queue)
where exists (select from oban_jobs where state = 'available' and queue = given.queue)
