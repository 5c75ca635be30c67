delete from staffa_queues where :queue in (queue, '*') and :node in (node, '')
