-- Own version: instants are text.
create table if not exists staffa_schema (
  version integer primary key,
  applied_at text not null default (strftime('%Y-%m-%dT%H:%M:%f000Z', 'now'))
)
