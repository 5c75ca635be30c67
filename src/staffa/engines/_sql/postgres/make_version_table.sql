-- Own version: the time is the database's.
create table if not exists staffa_schema (
  version integer primary key,
  applied_at timestamp not null default timezone('UTC', now())
)
