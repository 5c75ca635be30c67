drop table if exists staffa_cron_ticks;
