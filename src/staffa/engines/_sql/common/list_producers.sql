select id, node, queue, capacity, beat, started_at, beat_at, expired_at is not null as expired, paused
from staffa_producers
order by queue, node, id
