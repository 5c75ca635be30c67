select id, queue, node, paused from staffa_queues order by id
