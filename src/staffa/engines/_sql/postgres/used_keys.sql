-- Own version: SQLite needs none of it, where nobody else writes meanwhile.
select key from staffa_keys
where key = any(array(select json_array_elements_text(cast(:keys as json))))
limit 1
