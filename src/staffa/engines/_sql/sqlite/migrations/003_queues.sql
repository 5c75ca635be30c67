-- What was said about queues: the newest row that speaks of a queue ('*' means all) and of a node ('' means
-- all) counts. So ids never come twice, and nothing has to be unique.
create table if not exists staffa_queues (
  id integer primary key autoincrement,
  queue text not null,
  node text not null default '',
  paused integer not null,
  updated_at text not null default (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
);

alter table staffa_producers add column paused integer not null default 0;

-- What one process tells the others, as there are no channels. Each reads what is newer than it has seen.
create table if not exists staffa_notices (
  id integer primary key autoincrement,
  channel text not null,
  payload text not null,
  told_at text not null default (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
);
