alter table staffa_producers drop column paused;
drop table if exists staffa_notices;
drop table if exists staffa_queues;
