-- Own version: SQLite has no channels.
select pg_notify(cast(:channel as text), payload) from json_array_elements_text(cast(:payloads as json)) as payload
