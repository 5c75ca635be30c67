-- What was said about queues: the newest row that speaks of a queue ('*' means all) and of a node ('' means
-- all) counts. So ids never come twice, and nothing has to be unique.
create table if not exists staffa_queues (
  id bigserial primary key,
  queue text not null,
  node text not null default '',
  paused boolean not null,
  updated_at timestamp not null default timezone('UTC', now())
);

alter table staffa_producers add column if not exists paused boolean not null default false;
