insert into staffa_queues (queue, node, paused) values (:queue, :node, :paused) returning id
