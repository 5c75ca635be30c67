alter table staffa_producers drop column if exists paused;
drop table if exists staffa_queues;
