-- Own version: SQLite has no channels.
select pg_notify(:channel, payload) from json_array_elements_text(:payloads::json) as payload
