-- Own version: only a server has these settings and these limits.
select
  current_setting('server_version'),
  current_setting('server_version_num')::integer,
  pg_is_in_recovery() or current_setting('transaction_read_only') = 'on',
  current_setting('autovacuum') = 'on',
  pg_notification_queue_usage(),
  (select count(*) from pg_stat_activity where backend_type = 'client backend'),
  current_setting('max_connections')::integer,
  clock_timestamp()
