drop table if exists staffa_keys;
